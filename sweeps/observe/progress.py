"""The progress of a sweep: its trials by status, the best arm so far, the time worked and the time left.

A `Tracker` follows the journal, during a launch as its listener, or from another process that reads the file.
The live table, `status`, `list` and `watch` show its snapshots.
"""

from __future__ import annotations

import math
import statistics
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeps.decide.budget import BudgetUsage
from sweeps.observe.ahead import unplanned_trials
from sweeps.record.journal import Event
from sweeps.record.state import SweepState, TrialState
from sweeps.space.schema import Budget

WITHOUT_RESULT = ("diverged", "failed")  # statuses of trials whose values are no one's best


@dataclass(frozen=True)
class ArmProgress:
    """An arm: its trials by status, and its value: the mean of its completed evidence trials' last values
    where `is_evidence`, else the best value of a trial so far; None where there is none."""

    name: str
    trials: Mapping[str, int]
    value: float | None = None
    is_evidence: bool = False


@dataclass(frozen=True)
class Progress:
    """A sweep at one moment.

    `unit` is a key of analysis.format.UNITS. `trials` are counted by status, for all planned trials;
    `unplanned` is how many more may be planned. `best` is the leading arm. `elapsed_s` is the time for which
    processes worked on the sweep, over all launches; `left_s` estimates how long it will still run, None if
    that is unknown or nothing runs it. `updated` is the time of the last event, in seconds since 1970.
    `is_starting` is whether the launch has started no trial yet.
    """

    name: str
    metric: str
    mode: str
    unit: str
    arms: tuple[ArmProgress, ...]
    trials: Mapping[str, int]
    unplanned: int
    best: ArmProgress | None
    elapsed_s: float
    left_s: float | None
    updated: float
    is_starting: bool = False

    @property
    def ended(self) -> int:
        """The number of trials that have an outcome."""
        return sum(self.trials.get(status, 0) for status in ("completed", "pruned", *WITHOUT_RESULT))

    @property
    def planned(self) -> int:
        """The number of trials, with those that may still be planned."""
        return sum(self.trials.values()) + self.unplanned

    def ranked(self) -> list[ArmProgress]:
        """The arms, the leading one first; those without a value last, in the plan's order."""
        sign = -1.0 if self.mode == "max" else 1.0

        def key(arm: ArmProgress) -> tuple[bool, bool, float]:
            return arm.value is None, not arm.is_evidence, sign * (arm.value or 0.0)

        return sorted(self.arms, key=key)


class Tracker:
    """Follows a sweep: call `apply` with each event, in order, after `state` has taken it in.

    `space` is the content of sweep.yaml. `snapshot` may be called from another thread.
    """

    def __init__(self, state: SweepState, space: Mapping[str, Any]) -> None:
        self._state = state
        self._space = space
        self._objective = space["objective"]["metric"], space["objective"]["mode"]
        scheduler = space.get("scheduler") or {}
        judged = scheduler.get("metric") or self._objective[0]
        self._judged = judged, scheduler.get("mode") or self._objective[1]
        self._lock = threading.Lock()
        # metric -> trial -> its best value so far
        self._best: dict[str, dict[str, float]] = {self._objective[0]: {}, judged: {}}
        self._usage = BudgetUsage(Budget())
        self._updated = 0.0  # time of the last event
        self._training: float | None = None  # time of the last launch's first start of a trial
        self._samples_before: dict[str, float] = {}  # trial -> trained before the last launch
        self._seconds_before = 0.0  # of all trials, before the last launch
        self._unplanned_at: tuple[int, ...] = ()
        self._unplanned = 0

    def apply(self, event: Event) -> None:
        """Take one event in."""
        with self._lock:
            self._usage.apply(event)
            self._updated = event["time"]
            if event["event"] == "launch":
                self._training = None
                self._samples_before = self._usage.samples_by_trial()
                self._seconds_before = sum(trial.seconds for trial in self._state.trials.values())
            elif event["event"] == "start" and not event.get("reused_from") and self._training is None:
                self._training = event["time"]
            for metric, mode in {self._objective, self._judged}:
                if event["event"] == "report" and metric in event and math.isfinite(float(event[metric])):
                    value, best = float(event[metric]), self._best[metric]
                    choose = max if mode == "max" else min
                    best[event["trial_id"]] = choose(value, best.get(event["trial_id"], value))

    def snapshot(self, now: float | None, or_judged: bool = False) -> Progress:
        """The progress at the time `now`, in seconds since 1970; None if no process works on the sweep.

        With `or_judged` it is that by the scheduler's metric while the objective is 0 everywhere.
        """
        with self._lock:
            spent = self._usage.spent_so_far() if now is None else self._usage.spent(now)
            trials = list(self._state.trials.values())
            metric, mode = self._objective
            if or_judged and not any(self._best[metric].values()):
                metric, mode = self._judged
            objective, resolved = self._space["objective"], self._space["resolved"]
            unit = (resolved.get("units") or {}).get(metric)
            if unit is None:
                unit = objective.get("unit") if metric == objective["metric"] else None
            arms = self._arms(trials, metric, mode, is_running=now is not None)
            unplanned = self._count_unplanned(trials)
            progress = Progress(
                name=str(self._space["name"]),
                metric=metric,
                mode=mode,
                unit=unit or "none",
                arms=arms,
                trials=_counts(trials, is_running=now is not None),
                unplanned=unplanned,
                best=None,
                elapsed_s=spent["wall_h"] * 3600,
                left_s=None if now is None else self._left(trials, unplanned, now),
                updated=self._updated,
                is_starting=now is not None and self._training is None,
            )
        leading = next((arm for arm in progress.ranked() if arm.value is not None), None)
        return replace(progress, best=leading)

    def _arms(
        self, trials: Sequence[TrialState], metric: str, mode: str, is_running: bool
    ) -> tuple[ArmProgress, ...]:
        by_arm: dict[str, list[TrialState]] = {arm: [] for arm in self._space["resolved"]["arms"]}
        for trial in trials:
            by_arm.setdefault(trial.arm, []).append(trial)
        choose, best = max if mode == "max" else min, self._best[metric]
        found = []
        for arm, members in by_arm.items():
            counts = _counts(members, is_running)
            shown = [
                trial.last[metric]
                for trial in members
                if trial.status == "completed" and metric in trial.last
                if self._state.phase_of(trial) == "evidence"
            ]
            shown = [value for value in shown if math.isfinite(value)]
            searched = [
                best[trial.trial_id]
                for trial in members
                if trial.trial_id in best and trial.status not in WITHOUT_RESULT
            ]
            if shown:
                found.append(ArmProgress(arm, counts, statistics.fmean(shown), is_evidence=True))
            else:
                found.append(ArmProgress(arm, counts, choose(searched, default=None)))
        return tuple(found)

    # The time left

    def _left(self, trials: Sequence[TrialState], unplanned: int, now: float) -> float | None:
        """Seconds until the sweep ends if no further trial stops early: at the rate of samples in this
        launch where a trial's number of samples is known, each as a share of its arm's; else by the time that
        completed trials took."""
        open_trials = [trial for trial in trials if not trial.ended]
        if not open_trials and not unplanned:
            return 0.0
        elapsed = 0.0 if self._training is None else now - self._training
        resolved = self._space["resolved"]
        horizons: dict[str, float] = {  # by arm; of all in a sweep from before arms had their own
            name: arm.get("horizon", resolved.get("horizon")) or math.nan
            for name, arm in resolved["arms"].items()
        }
        if not any(map(math.isnan, horizons.values())):
            trained, before, whole = self._usage.samples_by_trial(), self._samples_before, 1.0
            done = sum(
                (trained.get(trial.trial_id, 0.0) - before.get(trial.trial_id, 0.0)) / horizons[trial.arm]
                for trial in trials
            )
            shares = [trial.last.get("samples", 0.0) / horizons[trial.arm] for trial in open_trials]
            rest = sum(max(0.0, 1.0 - share) for share in shares)
        else:
            times = [trial.seconds for trial in trials if trial.status == "completed" and trial.seconds]
            if not times:
                return None
            whole = statistics.fmean(times)
            rest = sum(max(0.0, whole - trial.seconds_at(now)) for trial in open_trials)
            done = sum(trial.seconds_at(now) for trial in trials) - self._seconds_before
        if done <= 0 or elapsed <= 0:
            return None
        return elapsed * (rest + whole * unplanned) / done

    def _count_unplanned(self, trials: Sequence[TrialState]) -> int:
        state = self._state
        key = len(trials), len(state.selected), len(state.stages), len(state.looks)
        if key != self._unplanned_at:
            self._unplanned_at, self._unplanned = key, unplanned_trials(trials, state, self._space)
        return self._unplanned


def _counts(trials: Sequence[TrialState], is_running: bool) -> dict[str, int]:
    """The trials by status. Where no process works on the sweep, those that ran were interrupted by its
    death."""
    counts: dict[str, int] = dict(Counter(trial.status for trial in trials))
    if not is_running and "running" in counts:
        counts["interrupted"] = counts.get("interrupted", 0) + counts.pop("running")
    return counts
