"""Sweeps over real learning curves: the project's plan and controller on a virtual clock.

In a task with tuning, an arm's configs are its draws: they run on one search seed, and the best draw on the
evidence seeds. In one without, the arms themselves are judged (scope sweep), on the evidence seeds. The
runs of one config are taken as exchangeable: which of them is the search's, and which are the evidence's,
is drawn anew in each replicate, and so are the order in which arms and draws start and each run's speed.

The truth is an arm's mean over all of its runs at the planned end, of its best config.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.curves import REPORTS, Task
from benchmarks.simulated import SimulatedPlan, make_plan, play
from benchmarks.truth import Truth

WORKERS, SPEED_SD = 8, 0.3  # as in decisions.yaml
WHOLE = 1000  # samples of a run, which stand for any length
EVIDENCE = 4  # seeds
MOST_DRAWS = 5  # up to here, fewer draws are compared too
FEWEST_ARMS, MOST_OUTRUN = 4, 0.125  # of a task that is played
FULL = "full"
MANY_REACHED = 0.4  # tasks of which more runs stopped at a target are reported apart
MEASURES = ("right", "near", "regret", "samples")


class CurveConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    submission: int = 0  # the arm
    point: int = 0  # the draw
    max_samples: int = WHOLE


def train(config: CurveConfig, trial: Any) -> None:
    """The plan wants a trainer's name; its runs are looked up, never trained."""
    raise NotImplementedError


def describe(config: CurveConfig) -> dict[str, Any]:
    return {"horizon_key": "max_samples", "metrics": ["accuracy"]}


def playable(tasks: list[Task]) -> list[Task]:
    """The tasks with enough arms whose runs keep to their plan. Where nothing is tuned, an arm needs as many
    runs as there are seeds; others are left out."""
    found = []
    for task in tasks:
        if not task.tuned:
            many = task.known.sum(axis=(1, 2)) >= EVIDENCE
            arms = tuple(arm for arm, is_one in zip(task.arms, many, strict=True) if is_one)
            task = replace(task, arms=arms, curves=task.curves[many], known=task.known[many])
        if len(task.arms) >= FEWEST_ARMS and task.outrun <= MOST_OUTRUN:
            found.append(task)
    return found


def policies(task: Task) -> dict[str, dict[str, Any]]:
    """Each policy's keys of the YAML, the full plan first: every kind of scheduler with its first rung at 10%
    and at 30%; where there is tuning, in both scopes, and fewer draws. Fixed keeps a third, as ASHA does."""
    arms, draws = task.curves.shape[:2]
    found: dict[str, dict[str, Any]] = {FULL: {"scheduler": {"kind": "fifo"}}}
    for scope, members in {"arm": draws, "sweep": arms * draws}.items():
        kinds = {"asha": {"reduction_factor": 3}, "median": {}, "fixed": {"keep": math.ceil(members / 3)}}
        for kind, percent in itertools.product(kinds, (10, 30)):
            grace = WHOLE * percent // 100
            scheduler = {"kind": kind, "scope": scope, "grace_period": grace, **kinds[kind]}
            if task.tuned or scope == "sweep":
                found[f"{kind} {scope} {percent}%"] = {"scheduler": scheduler}
    for fewer in range(2, min(draws, MOST_DRAWS)):
        found[f"{fewer} draws"] = {"tune": {"point": {"choice": list(range(fewer))}}}
    if four := found.get("4 draws"):  # as the shipped search spaces stop them, and by the median rule
        for percent in (10, 20):
            keys = {"kind": "asha", "scope": "arm", "grace_period": WHOLE * percent // 100}
            halving = {"scheduler": {**keys, "reduction_factor": 2}}
            found[f"4 draws, asha arm {percent}%, by 2"] = {**four, **halving}
        scheduler = {"kind": "median", "scope": "arm", "grace_period": WHOLE // 10}
        found["4 draws, median arm 10%"] = {**four, "scheduler": scheduler}
    return found


def make_plans(task: Task) -> dict[str, SimulatedPlan]:
    arms, draws = task.curves.shape[:2]
    space: dict[str, Any] = {
        "trainer": "benchmarks.curve_sweeps:train",
        "base": {"max_samples": WHOLE},
        "objective": {"metric": "accuracy", "mode": "max"},
        "ablate": {"submission": list(range(arms))},
        "seeds": list(range(EVIDENCE)),
        "evidence": {"looks": "none", "pairing": "paired"},  # all seeds, the same for all arms
    }
    if task.tuned:
        space["tune"] = {"point": {"choice": list(range(draws))}}
        space["search"] = {"algorithm": "grid", "seeds": [EVIDENCE], "keep": 1}
    return {
        name: make_plan(space, policy, re.sub(r"\W+", "_", name)) for name, policy in policies(task).items()
    }


def shuffled(task: Task, rng: np.random.Generator) -> tuple[np.ndarray, Truth]:
    """The task's arms in the order in which they start, and a Truth with arms, draws and runs in a random
    order. A run that the data lacks fails at its first report."""
    arms, draws, most = task.known.shape
    runs = EVIDENCE + task.tuned
    order = rng.permutation(arms)
    curves = np.full((arms, draws, runs, REPORTS), np.nan)
    for place, arm in enumerate(order):
        for draw, config in enumerate(rng.permutation(draws)):
            there = max(runs, np.count_nonzero(task.known[arm, config]))
            chosen = rng.permutation(there)[:runs]
            inside = chosen < most
            curves[place, draw, inside] = task.curves[arm, config, chosen[inside]]
    durations = np.exp(SPEED_SD * rng.standard_normal(curves.shape[:3]))
    return order, Truth(true_means(task)[order], curves, durations, math.nan)


def _of_configs(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """[arm, config]: the mean over runs, and its squared standard error. -inf and NaN without a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a config of which the data has no run, or one
        means, variances = np.nanmean(task.finals, axis=2), np.nanvar(task.finals, axis=2, ddof=1)
    return np.where(np.isnan(means), -np.inf, means), variances / task.known.sum(axis=2).clip(1)


def true_means(task: Task) -> np.ndarray:
    """[arm]: of its best config."""
    return _of_configs(task)[0].max(axis=1)


def near_best(task: Task) -> np.ndarray:
    """[arm]: whether all the data cannot tell it from the best: the means are within two standard errors."""
    means, squares = _of_configs(task)
    config, arms = means.argmax(axis=1), np.arange(len(means))
    mean, square = means[arms, config], np.nan_to_num(squares[arms, config])
    best = mean.argmax()
    return mean[best] - mean <= 2 * np.sqrt(square + square[best])


def sweeps_of(task: Task, replicates: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row a policy: means over the replicates, which are the same for all policies. Regret is in standard
    deviations of the arms' means, samples are relative to the full plan's."""
    plans, means, near = make_plans(task), true_means(task), near_best(task)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in plans}
    for index in range(replicates):
        order, truth = shuffled(task, np.random.default_rng((seed, index)))
        for name, plan in plans.items():
            outcome = play(plan, truth, WORKERS)
            named = means.argmin() if outcome.named is None else order[outcome.named]
            regret = (means.max() - means[named]) / means.std(ddof=1)
            found[name].append((means[named] == means.max(), near[named], regret, outcome.samples))
    whole = np.mean([samples for *_, samples in found[FULL]])
    for name, rows in found.items():
        table = np.array(rows, dtype=float) / (1, 1, 1, whole)
        measured = dict(zip(MEASURES, table.mean(axis=0).round(4).tolist(), strict=True))
        yield {"group": group_of(task), "task": task.name, "policy": name, **measured}


def group_of(task: Task) -> str:
    kind = "tuned" if task.tuned else "untuned"
    cut = f", over {MANY_REACHED:.0%} at their target" if task.reached > MANY_REACHED else ""
    return f"{task.dataset}, {kind}{cut}"


def about(task: Task) -> dict[str, Any]:
    arms, draws = task.curves.shape[:2]
    tenth = REPORTS // 10
    return {
        "group": group_of(task), "task": task.name, "arms": arms, "draws": draws,
        "runs": int(task.known.sum()), "reached": round(task.reached, 3),
        "near_best": int(near_best(task).sum()),
        "spearman_10": task.correlation(tenth), "spearman_30": task.correlation(3 * tenth),
    }  # fmt: skip
