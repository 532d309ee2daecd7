"""Early stopping that compares like with like.

A pool holds members; a member is a draw of an arm, run on one or more seeds. A member reaches a rung when
the last of its seeds has, is judged by the mean of its seeds there, and its seeds stop together. Nothing is
paused. Which rungs there are and who stops at one is the scheduler's to say: see `sweeps.schedulers`.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sweeps.schedulers.base import Pool
from sweeps.space.schema import SchedulerSpec

WORST = -math.inf


@dataclass(frozen=True)
class Decision:
    """What became of a member at a rung. `value` and `cutoff` are in the metric's own units."""

    member: str
    rung: float
    value: float
    cutoff: float | None  # None: there was nothing to compare with
    action: Literal["continue", "stop", "audit"]  # audit: was to stop, and runs on to be looked at
    why: str
    tied: int = 0  # others at the rung with the very same value


@dataclass
class _Arrivals(Pool):
    """A pool, and the trials that are at a rung whose member is not there yet."""

    waiting: dict[tuple[float, str], dict[str, float]] = field(default_factory=dict)  # -> trial -> value


class Judge:
    """Lets the scheduler decide, as reports come in, which members stop.

    With `audit` a random share of the members that were to be stopped runs on, for the report alone: from
    then on such a member takes no part in any comparison. Which ones is drawn from `salt` and their names.
    """

    def __init__(self, spec: SchedulerSpec, salt: str = "") -> None:
        self.spec, self._salt = spec, salt
        self.scheduler = spec.build()
        self.metric = spec.metric or ""  # the plan has filled it in
        self._sign = 1.0 if spec.mode == "max" else -1.0
        self._pools: dict[str, _Arrivals] = {}
        self._rungs_seen: dict[str, set[float]] = {}
        self.stopped: dict[str, Decision] = {}
        self.audited: dict[str, Decision] = {}
        self._done: set[str] = set()

    def on_report(
        self, pool: str, member: str, trials: Iterable[str], trial_id: str, metrics: Mapping[str, float]
    ) -> list[Decision]:
        """Take one report in and return the verdicts that it brought about, stops included.

        `trials` are all trials of the member. Hearing the same report twice changes nothing.
        """
        reached = metrics.get(self.spec.time_attr)
        if reached is None or self.metric not in metrics:
            return []
        seen = self._rungs_seen.setdefault(trial_id, set())
        due = [rung for rung in self.scheduler.rungs() if rung <= reached and rung not in seen]
        seen.update(due)
        value = self._sign * metrics[self.metric]
        return self._enter(pool, member, trials, trial_id, due, value if math.isfinite(value) else WORST)

    def on_diverged(self, pool: str, member: str, trials: Iterable[str], trial_id: str) -> list[Decision]:
        """A trial that diverged has the worst value at every rung that it did not reach."""
        seen = self._rungs_seen.setdefault(trial_id, set())
        due = [rung for rung in self.scheduler.rungs() if rung not in seen]
        seen.update(due)
        return self._enter(pool, member, trials, trial_id, due, WORST)

    def on_completed(self, member: str) -> None:
        """A member that has come to its end counts at the rungs that it was at, and cannot be stopped."""
        self._done.add(member)

    def on_reopened(self, member: str) -> None:
        """One that had come to its end goes further, as the horizon has moved."""
        self._done.discard(member)

    def _enter(
        self, pool: str, member: str, trials: Iterable[str], trial_id: str, due: list[float], value: float
    ) -> list[Decision]:
        decisions: list[Decision] = []
        here = self._pools.setdefault(pool, _Arrivals())
        for rung in due:
            arrived = here.waiting.setdefault((rung, member), {})
            arrived[trial_id] = value
            if set(arrived) >= set(trials) and not self._is_out(member):
                here.values.setdefault(rung, {})[member] = statistics.fmean(arrived.values())
                decisions += self._decide(here, rung, member)
        return decisions

    def _decide(self, pool: Pool, rung: float, member: str) -> list[Decision]:
        cutoff, losers = self.scheduler.judge(pool, rung, member)
        losers = [name for name in losers if not self._is_out(name) and name not in self._done]
        decisions = []
        for name in dict.fromkeys([*losers, member]):
            value = pool.values[rung][name]
            tied = sum(other == value for other in pool.values[rung].values()) - 1
            shown = None if cutoff is None else self._sign * cutoff
            why = (
                f"{self.metric} {self._sign * value:.4g} at {self.spec.time_attr} {rung:g}"
                f"{'' if shown is None else f', cut-off {shown:.4g}'} ({len(pool.values[rung])} there)"
            )
            action: Literal["continue", "stop", "audit"] = "continue"
            if name in losers:
                action = "audit" if self._is_for_audit(name) else "stop"
            decision = Decision(name, rung, self._sign * value, shown, action, why, tied)
            if action != "continue":
                (self.stopped if action == "stop" else self.audited)[name] = decision
            decisions.append(decision)
        return decisions

    def _is_out(self, member: str) -> bool:
        return member in self.stopped or member in self.audited

    def _is_for_audit(self, member: str) -> bool:
        return random.Random(f"{self._salt}/{member}").random() < self.spec.audit
