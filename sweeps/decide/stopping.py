"""Early stopping in a sweep: a judge hears the trials of the search, and its verdicts are noted.

After a restart it hears the journal once more and decides again what it decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from sweeps.decide.judge import Decision, Judge
from sweeps.plan.model import Plan
from sweeps.record.journal import Event, Journal
from sweeps.record.state import SweepState, TrialState


class Stopping:
    """Between a sweep's state, in which trials are, and a judge, which knows members and pools."""

    def __init__(self, plan: Plan, state: SweepState, journal: Journal) -> None:
        self._scope = plan.spec.scheduler.scope
        self._state = state
        self._journal = journal
        self._judge = Judge(plan.spec.scheduler, salt=plan.spec.name)
        self._unwritten: list[tuple[Decision, str]] = []  # verdicts on a report that a crash came after

    @property
    def stopped(self) -> Mapping[str, Decision]:
        """By member."""
        return self._judge.stopped

    @property
    def audited(self) -> Mapping[str, Decision]:
        """Members that were to stop and run on, to be looked at."""
        return self._judge.audited

    def decision_against(self, trial: TrialState) -> Decision | None:
        """Why the trial is to stop; None where it is not."""
        return self.stopped.get(trial.member) if trial.phase == "search" else None

    def never_judged(self, trial: TrialState) -> str:
        """Why a trial that came to its end was at no rung; '' where it was, or there is none."""
        rungs, key = self._judge.scheduler.rungs(), self._judge.spec.time_attr
        if trial.phase != "search" or not rungs or trial.last.get(key, 0) >= rungs[0]:
            return ""
        ended = f"it ended at {trial.last.get(key, 0):g} {key}"
        return f"{ended}, before the first rung at {rungs[0]:g}, and was judged nowhere"

    # What happens

    def on_report(self, trial: TrialState, metrics: Mapping[str, float]) -> None:
        if trial.phase == "search":
            self._note(self._judge.on_report(*self._membership(trial), trial.trial_id, metrics), trial)

    def on_end(self, trial: TrialState) -> None:
        if trial.phase == "search":
            self._note(self._hear_end(trial), trial)

    def on_extended(self, reopened: Iterable[str]) -> None:
        """These trials had completed, and go further."""
        for trial_id in reopened:
            self._judge.on_reopened(self._state.trials[trial_id].member)

    # After a restart

    def replay(self, event: Event) -> None:
        """Let the judge hear what it heard before. The state has taken the event in."""
        if event["event"] == "decision":
            self._unwritten = [each for each in self._unwritten if not _is_of(each[0], event)]
        elif event["event"] == "extend":
            self.on_extended(event["reopened"])
        trial = self._state.trials.get(event.get("trial_id", ""))
        if trial is None or trial.phase != "search":
            return
        decisions: list[Decision] = []
        if event["event"] == "report":
            metrics = trial.reports[int(event["step"])]
            if all(map(math.isfinite, metrics.values())):  # else it came with an end, and was not judged
                decisions = self._judge.on_report(*self._membership(trial), trial.trial_id, metrics)
        elif event["event"] == "end":
            decisions = self._hear_end(trial)
        self._unwritten += [(decision, trial.trial_id) for decision in decisions]

    def catch_up(self) -> None:
        """Note the verdicts that a crash came before."""
        for decision, trial_id in self._unwritten:
            self._note([decision], self._state.trials[trial_id])
        self._unwritten = []

    # Trials and members

    def _hear_end(self, trial: TrialState) -> list[Decision]:
        if trial.status in ("diverged", "failed"):
            return self._judge.on_diverged(*self._membership(trial), trial.trial_id)
        if all(other.status == "completed" for other in self._state.siblings_of(trial)):
            self._judge.on_completed(trial.member)
        return []

    def _membership(self, trial: TrialState) -> tuple[str, str, list[str]]:
        """The pool, the member, and the member's trials."""
        pool = trial.arm if self._scope == "arm" else "sweep"
        return pool, trial.member, [other.trial_id for other in self._state.siblings_of(trial)]

    def _note(self, decisions: Iterable[Decision], trial: TrialState) -> None:
        keys = ("member", "rung", "value", "cutoff", "action", "tied")
        for decision in decisions:
            fields = {key: getattr(decision, key) for key in keys}
            self._journal.append("decision", trial_id=trial.trial_id, **fields)


def _is_of(decision: Decision, event: Event) -> bool:
    return all(getattr(decision, key) == event[key] for key in ("member", "rung", "action"))
