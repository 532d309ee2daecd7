"""Passes the reports and ends of search trials to the judge, and records its decisions in the journal.

The controller calls it. After a restart the decisions are read from the journal, never made again, so that
other code neither stops a member that went on nor lets one go on that was stopped. The judge
(`decide.judge`) learns from the journal's reports who waits at a rung, and decides there as it would have
without the restart.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping

from sweeps.decide.judge import Arrival, Decision, Judge
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
        self._undecided: list[tuple[Arrival, TrialState]] = []  # replayed, and without a decision so far

    @property
    def stopped(self) -> Mapping[str, Decision]:
        """The decisions to stop, by member."""
        return self._judge.stopped

    @property
    def audited(self) -> Mapping[str, Decision]:
        """The decisions to stop that are not carried out, to check the scheduler; by member."""
        return self._judge.audited

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The decisions to stop, by member, whether carried out or not."""
        return ChainMap(self._judge.stopped, self._judge.audited)

    def stop_decision(self, trial: TrialState) -> Decision | None:
        """The decision that stops the trial, or None."""
        return self.stopped.get(trial.member) if trial.phase == "search" else None

    def unjudged_reason(self, trial: TrialState) -> str:
        """A message if a trial ended before the first rung; '' if it reached one, or there is no rung."""
        rungs, key = self._judge.rungs, self._judge.spec.time_attr
        if trial.phase != "search" or not rungs or trial.last.get(key, 0) >= rungs[0]:
            return ""
        ended = f"it ended at {trial.last.get(key, 0):g} {key}"
        return f"{ended}, before the first rung at {rungs[0]:g}, and was never judged"

    # Events

    def on_report(self, trial: TrialState, metrics: Mapping[str, float]) -> None:
        self._write(self._judge.decide(self._reported(trial, metrics)), trial)

    def on_end(self, trial: TrialState) -> None:
        self._write(self._judge.decide(self._ended(trial)), trial)

    def on_extended(self, reopened: Iterable[str]) -> None:
        """Tell the judge that these completed trials will train longer."""
        for trial_id in reopened:
            self._judge.reopened(self._state.trials[trial_id].member)

    # After a restart

    def replay(self, event: Event) -> None:
        """Take in an event of the old journal. The state must have applied it before."""
        trial = self._state.trials.get(event.get("trial_id", ""))
        match event["event"]:
            case "extend":
                self.on_extended(event["reopened"])
            case "decision" if trial is not None:
                self._replay_decision(event, trial)
            case "report" if trial is not None:
                metrics = trial.reports[int(event["step"])]
                if all(map(math.isfinite, metrics.values())):  # a diverged report is not judged: its end is
                    self._replay_arrivals(self._reported(trial, metrics), trial)
            case "retry" if trial is not None and trial.phase == "search":
                self._judge.retried(self._pool(trial), trial.member, trial.trial_id)
            case "end" if trial is not None:
                self._replay_arrivals(self._ended(trial), trial)

    def _replay_arrivals(self, arrivals: list[Arrival], trial: TrialState) -> None:
        """Whoever wrote this event had decided on all arrivals before it, but for those at rungs that the
        plan did not have at the time, as its horizon was shorter."""
        known_to = math.inf if self._state.max_t is None else self._state.max_t
        undecided = [(arrival, at) for arrival, at in self._undecided if arrival.rung >= known_to]
        self._undecided = undecided + [(arrival, trial) for arrival in arrivals]

    def _replay_decision(self, event: Event, trial: TrialState) -> None:
        for arrival, _ in self._undecided:
            if arrival.rung == event["rung"]:
                self._judge.enter(arrival)
        self._judge.restore(self._pool(trial), event)
        decided = event["member"], event["rung"]
        self._undecided = [
            (arrival, at) for arrival, at in self._undecided if (arrival.member, arrival.rung) != decided
        ]

    def make_missing_decisions(self) -> None:
        """Make and write the decisions that a crash kept out of the journal, and those at the new rungs of a
        longer horizon. Call it once, after the replay."""
        for arrival, trial in self._undecided:
            self._write(self._judge.decide([arrival]), trial)
        self._undecided = []

    # Trials and members

    def _reported(self, trial: TrialState, metrics: Mapping[str, float]) -> list[Arrival]:
        """Where the trial's member has come to by this report."""
        if trial.phase != "search":
            return []
        return self._judge.reported(*self._membership(trial), trial.trial_id, metrics)

    def _ended(self, trial: TrialState) -> list[Arrival]:
        """Tell the judge that the trial has ended. Returns where its member has come to by that."""
        if trial.phase != "search":
            return []
        if trial.is_lost:
            arrivals = self._judge.lost(*self._membership(trial))
        elif trial.status in ("diverged", "failed"):
            return self._judge.diverged(*self._membership(trial), trial.trial_id)
        else:
            arrivals = []
        counted = [other for other in self._state.siblings_of(trial) if not other.is_lost]
        if counted and all(other.status == "completed" for other in counted):
            self._judge.completed(trial.member)
        return arrivals

    def _membership(self, trial: TrialState) -> tuple[str, str, list[str]]:
        """The names of the pool and the member, and the ids of the member's trials that were not lost."""
        trials = [other.trial_id for other in self._state.siblings_of(trial) if not other.is_lost]
        return self._pool(trial), trial.member, trials

    def _pool(self, trial: TrialState) -> str:
        return trial.arm if self._scope == "arm" else "sweep"

    def _write(self, decisions: Iterable[Decision], trial: TrialState) -> None:
        keys = ("member", "rung", "value", "cutoff", "action", "tied")
        for decision in decisions:
            fields = {key: getattr(decision, key) for key in keys}
            self._journal.append("decision", trial_id=trial.trial_id, **fields)
