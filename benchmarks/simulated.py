"""Simulated sweeps on a virtual clock: the project's controller, or Ray Tune's ASHA, over a Truth's runs.

Nothing trains and nothing waits. Workers take trials as they fall free; who reports next is decided by how
fast the runs are.
"""

from __future__ import annotations

import heapq
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from analysis.inference.decision import BETTER, WORSE
from analysis.inference.intervals import ALPHA
from benchmarks.truth import RaySettings, Truth
from sweeps.decide.controller import Controller
from sweeps.plan.build import load_plan
from sweeps.plan.evidence import has_evidence
from sweeps.plan.model import Arm, Draw, Plan, TrialPlan
from sweeps.record.journal import Event, Journal
from sweeps.record.state import SweepState, member_of
from sweeps.space.errors import SpecError
from trm.settings.yaml import dump_yaml


class SimulatedConfig(BaseModel):
    """Two factors and a tuned value."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mixer: str = "old"
    gate: str = "off"
    x: float = 0.5
    max_samples: int = 1000


def train(config: SimulatedConfig, trial: Any) -> None:
    """The plan wants a trainer's name; its runs are looked up, never trained."""
    raise NotImplementedError


def describe(config: SimulatedConfig) -> dict[str, Any]:
    return {"horizon_key": "max_samples", "metrics": ["accuracy"]}


class SimulatedPlan(Plan):
    """A plan that makes each trial once: the controller asks twice, and validating a config takes time."""

    def trial(self, arm: Arm, draw: Draw, seed: int, phase: str) -> TrialPlan:
        made: dict[Any, TrialPlan] = self.__dict__.setdefault("made", {})
        key = (arm.name, draw.index, seed, phase)
        if key not in made:
            made[key] = super().trial(arm, draw, seed, phase)
        return made[key]


def make_plan(space: Mapping[str, Any], policy: Mapping[str, Any], name: str) -> SimulatedPlan:
    """The plan of `space` with the keys of `policy` over it, read from YAML as a user's is."""
    merged = {**space, "name": name}
    for key, value in policy.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.yaml")
        path.write_text(dump_yaml(merged))
        try:
            plan = load_plan(path)
        except SpecError as error:
            raise SpecError(str(error).replace(str(path), f"the plan of policy {name}")) from error
    return SimulatedPlan(**{each.name: getattr(plan, each.name) for each in fields(plan)})


class MemoryJournal(Journal):
    """Hands events on and keeps them in `events`."""

    def __init__(self) -> None:
        self.listeners, self.events = [], []  # type: list[Any], list[Event]

    def append(self, event: str, **fields: Any) -> Event:
        record: Event = {"time": 0.0, "event": event, **fields}
        self.events.append(record)
        for listener in self.listeners:
            listener(record)
        return record


@dataclass
class Outcome:
    """What a sweep came to: the arm that it names, what it claims, and what it spent.

    `claims` has the sign of an arm's difference from the baseline where one is claimed, else 0. `samples` is
    in whole runs.
    """

    named: int | None
    claims: np.ndarray
    samples: float
    chosen: list[list[int]] = field(default_factory=list)  # each arm's draws in the evidence


class Clock:
    """Who reports next. Equal times go by order of entry."""

    def __init__(self) -> None:
        self.now, self._order = 0.0, 0
        self._heap: list[tuple[float, int, Any]] = []

    def at(self, time: float, what: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, what))

    def events(self) -> Iterator[Any]:
        while self._heap:
            self.now, _, what = heapq.heappop(self._heap)
            yield what


def play(plan: SimulatedPlan, truth: Truth, workers: int) -> Outcome:
    """Run the plan by the project's controller, from launch to its last trial."""
    controller, clock = Controller(plan, MemoryJournal()), Clock()
    controller.begin()
    place = {arm.name: index for index, arm in enumerate(plan.arms)}
    reports = truth.curves.shape[-1]
    whole, judged = plan.horizon or 1.0, plan.spec.scheduler.stops
    running: dict[str, tuple[np.ndarray, float, bool]] = {}
    spent = 0.0

    def ahead(trial_id: str, after: int) -> None:
        """Wait for the run's next report; where nobody is judged by them, for the last or the first NaN."""
        curve, duration, watched = running[trial_id]
        step = after + 1
        while not watched and step < reports and curve[step - 1] == curve[step - 1]:
            step += 1
        clock.at(clock.now + (step - after) * duration, (trial_id, step))

    def fill() -> None:
        while len(running) < workers and (trial := controller.next_trial(exclude=running)) is not None:
            controller.started(trial.trial_id)
            index = place[trial.arm], trial.draw, trial.seed
            watched = judged and trial.phase == "search"
            running[trial.trial_id] = (truth.curves[index], float(truth.durations[index]), watched)
            ahead(trial.trial_id, 0)

    fill()
    for trial_id, step in clock.events():
        value = float(running[trial_id][0][step - 1]) / 100
        metrics = {"step": step, "samples": whole * step / reports, "accuracy": value}
        if value != value:
            controller.ended(trial_id, "diverged", "accuracy is nan", metrics)
        elif controller.report(trial_id, metrics):
            if step < reports:
                ahead(trial_id, step)
                continue
            controller.ended(trial_id, "completed")
        spent += step / reports
        del running[trial_id]
        fill()
    assert controller.finished
    named, claims = conclude(controller.state, plan)
    return Outcome(named, claims, spent, [controller.state.selected.get(arm.name, []) for arm in plan.arms])


def conclude(state: SweepState, plan: Plan) -> tuple[int | None, np.ndarray]:
    """The arm that analysis.compare.ranking.rank_arms ranks first, and each one's claim: the sign of its
    difference from the baseline (the first) where the looks decided that there is one."""
    means = np.array([_mean(state, plan, arm.name) for arm in plan.arms])
    named = int(np.nanargmax(means)) if np.isfinite(means).any() else None
    signs = {BETTER: 1, WORSE: -1}
    verdicts = {row.arm: row.verdict for row in state.comparisons if row.against == plan.baseline}
    return named, np.array([signs.get(verdicts.get(arm.name, ""), 0) for arm in plan.arms])


def _mean(state: SweepState, plan: Plan, arm: str) -> float:
    """The mean of the arm in its report, without pandas, whose cost would be the most: over the seeds at
    which all of its kept draws completed. NaN if there is none.

    In a sweep that stops trials and tunes nothing, the survivors of the search are what there is.
    """
    phase = "evidence" if has_evidence(plan.spec) else "search"
    draws = state.selected.get(arm, []) if plan.spec.tune else [0]
    values: dict[int, list[float]] = {}
    for draw in draws:
        for trial in state.siblings.get((phase, member_of(arm, draw)), []):
            if trial.status == "completed":
                values.setdefault(trial.seed, []).append(trial.last["accuracy"])
    whole = [np.mean(found) for found in values.values() if len(found) == len(draws)]
    return float(np.mean(whole)) if whole else math.nan


def play_ray(settings: RaySettings, plan: SimulatedPlan, truth: Truth, workers: int) -> Outcome:
    """Ray Tune's own ASHAScheduler, one bracket, over all of the plan's arms x draws x `settings.seeds` as
    equal trials.

    Its user averages a draw over those of its seeds that ran to the end, names the arm of the best draw, and
    tests each arm's completed runs against the baseline's: Welch's t-test, at ALPHA each. A NaN stops nobody
    (`nan < cutoff` is false) and is left out of the means.
    """
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler
    from scipy import stats

    arms, reports, whole = len(plan.arms), truth.curves.shape[-1], plan.horizon or 1.0
    scheduler = ASHAScheduler(
        time_attr="samples",
        metric="accuracy",
        mode="max",
        max_t=whole,
        grace_period=settings.grace_period,
        reduction_factor=settings.reduction_factor,
    )
    draws = range(plan.number_of_draws(plan.arms[0]))
    waiting = iter([(arm, draw, seed) for draw in draws for arm in range(arms) for seed in settings.seeds])
    clock, spent, finals = Clock(), 0.0, {}

    def start() -> None:
        if (index := next(waiting, None)) is not None:
            trial = SimpleNamespace(trial_id=str(index))
            scheduler.on_trial_add(None, trial)
            clock.at(clock.now + truth.durations[index], (index, trial, 1))

    for _ in range(workers):
        start()
    for index, trial, step in clock.events():
        value = float(truth.curves[index][step - 1])
        result = {"samples": whole * step / reports, "accuracy": value}
        if scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE:
            clock.at(clock.now + truth.durations[index], (index, trial, step + 1))
            continue
        spent += step / reports
        if step == reports and np.isfinite(value):
            finals[index] = value
        start()
    by_draw: dict[tuple[int, int], list[float]] = {}
    by_arm: list[list[float]] = [[] for _ in range(arms)]
    for (arm, draw, _), value in finals.items():
        by_draw.setdefault((arm, draw), []).append(value)
        by_arm[arm].append(value)
    named = max(by_draw, key=lambda key: np.mean(by_draw[key]))[0] if by_draw else None
    claims = np.zeros(arms)
    for arm in range(1, arms):
        if min(len(by_arm[arm]), len(by_arm[0])) >= 2:
            test = stats.ttest_ind(by_arm[arm], by_arm[0], equal_var=False)
            claims[arm] = np.sign(test.statistic) if test.pvalue <= ALPHA else 0
    return Outcome(named, claims, spent)
