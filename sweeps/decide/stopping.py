"""Passes the reports and ends of search trials to the judge, and records its decisions in the journal.

The controller calls it. After a restart the journal is replayed, and the judge (`decide.judge`) repeats its
decisions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from sweeps.decide.judge import Decision, Judge
from sweeps.plan.model import Plan
from sweeps.record.journal import Event, Journal
from sweeps.record.state import SweepState, TrialState


class Stopping:
    """Translates between the sweep's state, which has trials, and the judge, which has members and pools.

    A member is a draw of an arm with all its seeds; a pool is the set of members that are compared.
    """

    def __init__(self, plan: Plan, state: SweepState, journal: Journal) -> None:
        self._scope = plan.spec.scheduler.scope
        self._state = state
        self._journal = journal
        self._judge = Judge(plan.spec.scheduler, salt=plan.spec.name)
        self._unwritten: list[tuple[Decision, str]] = []  # replayed decisions that the journal lacks

    @property
    def stopped(self) -> Mapping[str, Decision]:
        """The decisions to stop, by member."""
        return self._judge.stopped

    @property
    def audited(self) -> Mapping[str, Decision]:
        """The decisions to stop that are not carried out, to check the scheduler; by member."""
        return self._judge.audited

    def stop_decision(self, trial: TrialState) -> Decision | None:
        """The decision that stops the trial, or None."""
        return self.stopped.get(trial.member) if trial.phase == "search" else None

    def unjudged_reason(self, trial: TrialState) -> str:
        """A message if a trial ended before the first rung; '' if it reached one, or there is no rung."""
        rungs, key = self._judge.scheduler.rungs(), self._judge.spec.time_attr
        if trial.phase != "search" or not rungs or trial.last.get(key, 0) >= rungs[0]:
            return ""
        ended = f"it ended at {trial.last.get(key, 0):g} {key}"
        return f"{ended}, before the first rung at {rungs[0]:g}, and was never judged"

    # Events

    def on_report(self, trial: TrialState, metrics: Mapping[str, float]) -> None:
        if trial.phase == "search":
            decisions = self._judge.on_report(*self._membership(trial), trial.trial_id, metrics)
            self._write(decisions, trial)

    def on_end(self, trial: TrialState) -> None:
        if trial.phase == "search":
            self._write(self._end_decisions(trial), trial)

    def on_extended(self, reopened: Iterable[str]) -> None:
        """Tell the judge that these completed trials will train longer."""
        for trial_id in reopened:
            self._judge.on_reopened(self._state.trials[trial_id].member)

    # After a restart

    def replay(self, event: Event) -> None:
        """Pass an event of the old journal to the judge. The state must have applied it before."""
        if event["event"] == "decision":
            self._unwritten = [
                (decision, trial_id)
                for decision, trial_id in self._unwritten
                if not _matches(decision, event)
            ]
        elif event["event"] == "extend":
            self.on_extended(event["reopened"])
        trial = self._state.trials.get(event.get("trial_id", ""))
        if trial is None or trial.phase != "search":
            return
        decisions: list[Decision] = []
        if event["event"] == "report":
            metrics = trial.reports[int(event["step"])]
            if all(map(math.isfinite, metrics.values())):  # a diverged report comes with an end, unjudged
                decisions = self._judge.on_report(*self._membership(trial), trial.trial_id, metrics)
        elif event["event"] == "end":
            decisions = self._end_decisions(trial)
        self._unwritten += [(decision, trial.trial_id) for decision in decisions]

    def write_missing_decisions(self) -> None:
        """Write the decisions that a crash kept out of the journal. Call it once, after the replay."""
        for decision, trial_id in self._unwritten:
            self._write([decision], self._state.trials[trial_id])
        self._unwritten = []

    # Trials and members

    def _end_decisions(self, trial: TrialState) -> list[Decision]:
        """Tell the judge that the trial has ended. Returns what it decides then."""
        if trial.status in ("diverged", "failed"):
            return self._judge.on_diverged(*self._membership(trial), trial.trial_id)
        if all(other.status == "completed" for other in self._state.siblings_of(trial)):
            self._judge.on_completed(trial.member)
        return []

    def _membership(self, trial: TrialState) -> tuple[str, str, list[str]]:
        """The names of the pool and the member, and the ids of the member's trials."""
        pool = trial.arm if self._scope == "arm" else "sweep"
        return pool, trial.member, [other.trial_id for other in self._state.siblings_of(trial)]

    def _write(self, decisions: Iterable[Decision], trial: TrialState) -> None:
        keys = ("member", "rung", "value", "cutoff", "action", "tied")
        for decision in decisions:
            fields = {key: getattr(decision, key) for key in keys}
            self._journal.append("decision", trial_id=trial.trial_id, **fields)


def _matches(decision: Decision, event: Event) -> bool:
    return all(getattr(decision, key) == event[key] for key in ("member", "rung", "action"))
