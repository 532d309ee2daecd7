"""Early stopping that compares like with like.

A pool holds members; a member is a draw of an arm, run on one or more seeds. A member reaches a rung when
the last of its seeds has, is judged by the mean of its seeds there, and its seeds stop together. Nothing is
paused. A report that jumps over rungs counts at the highest of them alone: the values at those below are not
known. Which rungs there are and who stops at one is the scheduler's to say: see `sweeps.schedulers`.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True)
class Arrival:
    """A member is at a rung with the last of its seeds. `value` is their mean, higher is better."""

    pool: str
    member: str
    rung: float
    value: float


class Judge:
    """Lets the scheduler decide, as reports come in, which members stop.

    `reported`, `diverged` and `lost` say which members have come to a rung; `decide` judges them there.
    After a restart `restore` takes in what was decided then. With `audit` a random share of the members that
    were to be stopped runs on, for the report alone: from then on such a member takes no part in any
    comparison. Which ones is drawn from `salt` and their names.
    """

    def __init__(self, spec: SchedulerSpec, salt: str = "") -> None:
        self.spec, self._salt = spec, salt
        self.scheduler = spec.build()
        self.metric = spec.metric or ""  # the plan has filled it in
        self._sign = 1.0 if spec.mode == "max" else -1.0
        self.rungs = self.scheduler.rungs()
        self._pools: dict[str, Pool] = {}
        self._passed: dict[str, int] = {}  # trial -> how many rungs it has come past
        self._failed_at: dict[str, int] = {}  # trial -> how many it had come past when it failed
        # The seeds that have come to a rung, of members with several: member -> rung -> trial -> value
        self._waiting: dict[str, dict[float, dict[str, float]]] = {}
        self.stopped: dict[str, Decision] = {}
        self.audited: dict[str, Decision] = {}
        self._done: set[str] = set()

    # Who has come to a rung

    def reported(
        self, pool: str, member: str, trials: Iterable[str], trial_id: str, metrics: Mapping[str, float]
    ) -> list[Arrival]:
        """Take one report in: whether its member is now at the highest rung that the report has reached.

        `trials` are the trials of the member. The same report twice changes nothing.
        """
        reached = metrics.get(self.spec.time_attr)
        if reached is None or self.metric not in metrics:
            return []
        before, passed = self._passed.get(trial_id, 0), bisect_right(self.rungs, reached)
        if passed <= before:
            return []
        self._passed[trial_id] = passed
        value = self._sign * metrics[self.metric]
        value = value if math.isfinite(value) else WORST
        return self._arrive(pool, member, trials, trial_id, self.rungs[passed - 1 : passed], value)

    def diverged(self, pool: str, member: str, trials: Iterable[str], trial_id: str) -> list[Arrival]:
        """A trial that diverged has the worst value at every rung that it did not reach."""
        self._failed_at[trial_id] = passed = self._passed.get(trial_id, 0)
        left = self.rungs[passed:]
        self._passed[trial_id] = len(self.rungs)
        return self._arrive(pool, member, trials, trial_id, left, WORST)

    def retried(self, pool: str, member: str, trial_id: str) -> None:
        """A trial that had diverged or failed runs again: its worst values, and a decision on them, fall."""
        passed = self._failed_at.pop(trial_id, len(self.rungs))
        left = self.rungs[passed:]
        if not left:
            return
        self._passed[trial_id] = passed
        for rung in left:
            self._waiting.get(member, {}).get(rung, {}).pop(trial_id, None)
        if pool in self._pools:
            self._pools[pool].leave(left[0], member)
        for decisions in (self.stopped, self.audited):
            if member in decisions and decisions[member].rung >= left[0]:
                del decisions[member]

    def lost(self, pool: str, member: str, trials: Iterable[str]) -> list[Arrival]:
        """A trial of the member was lost, which says nothing of its draw. `trials` are the others: the member
        is at the rungs at which it waited for the lost one alone."""
        left = set(trials)
        waiting = sorted(self._waiting.get(member, {}).items())
        return [
            Arrival(pool, member, rung, statistics.fmean(arrived.values()))
            for rung, arrived in waiting
            if left and left <= arrived.keys() and not self._is_at(pool, rung, member)
        ]

    def completed(self, member: str) -> None:
        """A member that has come to its end counts at the rungs that it was at, and cannot be stopped."""
        self._done.add(member)

    def reopened(self, member: str) -> None:
        """One that had come to its end goes further, as the horizon has moved. A decision to stop it that
        came too late falls."""
        self._done.discard(member)
        self.stopped.pop(member, None)

    def _arrive(
        self,
        pool: str,
        member: str,
        trials: Iterable[str],
        trial_id: str,
        rungs: Sequence[float],
        value: float,
    ) -> list[Arrival]:
        arrivals, needed = [], set(trials)
        for rung in rungs:
            arrived = self._waiting.setdefault(member, {}).setdefault(rung, {})
            arrived[trial_id] = value
            if needed <= arrived.keys():
                arrivals.append(Arrival(pool, member, rung, statistics.fmean(arrived.values())))
                if len(needed) == 1:  # most members have one seed, and nothing waits
                    del self._waiting[member][rung]
        return arrivals

    def _is_at(self, pool: str, rung: float, member: str) -> bool:
        return pool in self._pools and member in self._pools[pool].values.get(rung, ())

    # What is decided there

    def decide(self, arrivals: Iterable[Arrival]) -> list[Decision]:
        """Judge the members where they have come to, one after the other. The last decision of each arrival
        is the one on its own member."""
        decisions: list[Decision] = []
        for arrival in arrivals:
            if not self._is_out(arrival.member):
                self.enter(arrival)
                decisions += self._judge(self._pools[arrival.pool], arrival.rung, arrival.member)
        return decisions

    def enter(self, arrival: Arrival) -> None:
        """The member counts at the rung from now on."""
        pool = self._pools.setdefault(arrival.pool, Pool())
        pool.enter(arrival.rung, arrival.member, arrival.value)

    def restore(self, pool: str, event: Mapping[str, Any]) -> None:
        """Take in a decision on a member of the pool that was made before a restart: the journal's event."""
        member, rung, value = event["member"], float(event["rung"]), float(event["value"])
        cutoff = None if event["cutoff"] is None else float(event["cutoff"])
        self.enter(Arrival(pool, member, rung, self._sign * value))
        why = self._why(self._pools[pool], rung, value, cutoff)
        self._keep(Decision(member, rung, value, cutoff, event["action"], why, event.get("tied", 0)))

    def _judge(self, pool: Pool, rung: float, member: str) -> list[Decision]:
        cutoff, found = self.scheduler.judge(pool, rung, member)
        losers = [name for name in found if not self._is_out(name) and name not in self._done]
        there = pool.values[rung]
        shown = None if cutoff is None else self._sign * cutoff
        decisions = []
        for name in [*(loser for loser in losers if loser != member), member]:
            action: Literal["continue", "stop", "audit"] = "continue"
            if name in losers:
                action = "audit" if self._is_for_audit(name) else "stop"
            value = self._sign * there[name]
            why = self._why(pool, rung, value, shown)
            decision = Decision(name, rung, value, shown, action, why, there.tied(name))
            self._keep(decision)
            decisions.append(decision)
        return decisions

    def _why(self, pool: Pool, rung: float, value: float, cutoff: float | None) -> str:
        return (
            f"{self.metric} {value:.4g} at {self.spec.time_attr} {rung:g}"
            f"{'' if cutoff is None else f', cut-off {cutoff:.4g}'} ({len(pool.values[rung])} there)"
        )

    def _keep(self, decision: Decision) -> None:
        if decision.action != "continue":
            (self.stopped if decision.action == "stop" else self.audited)[decision.member] = decision

    def _is_out(self, member: str) -> bool:
        return member in self.stopped or member in self.audited

    def _is_for_audit(self, member: str) -> bool:
        return random.Random(f"{self._salt}/{member}").random() < self.spec.audit
