"""Ranks the draws of each arm after its search, to select those that are repeated as evidence."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.decide.judge import Decision
from sweeps.decide.surface import expected_results, unit_cube
from sweeps.record.state import TrialState
from sweeps.space.schema import SweepSpec

FEWEST_TO_SMOOTH = 8  # completed draws of an arm


@dataclass(frozen=True)
class DrawResult:
    """A draw's last value of the objective, averaged over its seeds.

    `score` is higher for a better draw. `completed` is False if the scheduler stopped the draw, or would have
    and audits it.
    """

    draw: int
    values: Mapping[str, Any]
    score: float
    completed: bool


def ranked(
    search: Iterable[TrialState], spec: SweepSpec, audited: Mapping[str, Decision]
) -> list[DrawResult]:
    """The results of an arm's draws, best first.

    Completed draws come before stopped ones; of the stopped ones those that trained longest come first. A
    draw with a diverged or failed seed is left out. An audited draw (one that the scheduler would have
    stopped, but that runs on as a check) counts as stopped at its rung: its later reports do not influence
    the selection.
    """
    metric = spec.objective.metric
    sign = 1.0 if spec.objective.mode == "max" else -1.0
    by_draw: dict[int, list[TrialState]] = {}
    for trial in search:
        by_draw.setdefault(trial.draw, []).append(trial)
    ranks = []
    for draw, trials in by_draw.items():
        decision = audited.get(trials[0].member)
        last = [metrics_as_judged(trial, decision, spec.scheduler.time_attr) for trial in trials]
        is_valid = all(trial.status in ("completed", "pruned") for trial in trials)
        if is_valid and all(metric in values for values in last):
            score = statistics.fmean(sign * values[metric] for values in last)
            completed = decision is None and all(trial.status == "completed" for trial in trials)
            samples = 0.0 if completed else min(values["samples"] for values in last)
            result = DrawResult(draw, trials[0].values, score, completed)
            ranks.append(((-completed, -samples, -score, draw), result))
    return [result for _, result in sorted(ranks, key=lambda each: each[0])]


def smoothed(arms: Mapping[str, list[DrawResult]], spec: SweepSpec) -> dict[str, list[DrawResult]]:
    """The ranked results of the arms with their completed draws in the order of what is expected of each, by
    one surface over all arms. An arm with fewer than FEWEST_TO_SMOOTH completed draws is left out."""
    completed = {arm: [each for each in results if each.completed] for arm, results in arms.items()}
    fitted = {arm: results for arm, results in completed.items() if len(results) >= FEWEST_TO_SMOOTH}
    if not fitted:
        return {}
    expected = expected_results(
        [unit_cube([each.values for each in results], spec.tune) for results in fitted.values()],
        [np.array([each.score for each in results]) for results in fitted.values()],
    )
    found = {}
    for (arm, results), values in zip(fitted.items(), expected, strict=True):
        value_of = {each.draw: value for each, value in zip(results, values.tolist(), strict=True)}
        # Stopped draws, and equal ones, keep their order: the sort is stable.
        found[arm] = sorted(arms[arm], key=lambda each: (not each.completed, -value_of.get(each.draw, 0.0)))
    return found


def metrics_as_judged(trial: TrialState, decision: Decision | None, time_attr: str) -> Mapping[str, float]:
    """Each metric's last value; with a decision to stop, the last value up to that decision's rung."""
    if decision is None:
        return trial.last
    last: dict[str, float] = {}
    for step in sorted(trial.reports):
        last |= trial.reports[step]
        if last.get(time_attr, 0) >= decision.rung:
            break
    return last
