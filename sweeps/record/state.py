"""The state of a sweep, built from its journal event by event (`SweepState.apply`).

During a run the journal's listener calls `apply`, after a restart the replay does: both give the same state.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweeps.record.journal import Event, read_journal

if TYPE_CHECKING:  # it loads scipy, for which a command that only reads need not wait
    from analysis.inference.decision import Comparison

Status = Literal["not_started", "running", "completed", "pruned", "diverged", "failed", "interrupted"]
LOST = "lost"  # the cause of a retry or an end that is not the trainer's: worker or node died, or cannot run
ASKED = "asked"  # the cause of a retry that a user asked for, while no process worked on the sweep
# The states of a sweep, as a user is told
RUNNING, FINISHED, INTERRUPTED, BUDGET = "running", "finished", "interrupted", "budget"
ENDED: frozenset[str] = frozenset({"completed", "pruned", "diverged", "failed"})

_NOT_METRICS = frozenset({"time", "event", "trial_id"})


@dataclass
class TrialState:
    """One trial: its plan, its status, and its reports so far."""

    trial_id: str
    arm: str
    draw: int
    values: dict[str, Any]
    seed: int
    phase: str
    status: Status = "not_started"
    reason: str = ""
    cause: str = ""  # of a failure: LOST, or '' for the trainer's
    attempts: int = 0
    failures: int = 0  # the trainer's, after which it was retried
    lost: int = 0  # how often it was lost with its worker or node, in this launch and since its last new step
    mlflow_run_id: str = ""
    reused_from: str = ""  # SWEEP/TRIAL_ID from which its reports were copied
    gpu: float | None = None  # its share of a GPU, if it was enlarged after running out of memory
    enlarged: int = 0  # how often it was enlarged
    reports: dict[int, dict[str, float]] = field(default_factory=dict)  # by step, in the order of arrival
    last_step: int = -1
    last: dict[str, float] = field(default_factory=dict)  # each metric's value at the highest step with it
    seconds: float = 0.0  # of its attempts, each from its start to the last that was heard of it
    began: float | None = None  # time of the start of the attempt that runs
    heard: float = 0.0  # time of the last event of that attempt

    @property
    def member(self) -> str:
        """The name of what a scheduler compares: a draw of an arm, with all its seeds."""
        return member_of(self.arm, self.draw)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def is_lost(self) -> bool:
        """Whether it ended because of its worker or node, which says nothing of the trial itself."""
        return self.status == "failed" and self.cause == LOST

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Add a report. It replaces an earlier report of the same step, as after a restart."""
        self.reports[step] = metrics
        if step > self.last_step:
            self.lost = 0
        if step >= self.last_step:
            self.last_step = step
            self.last.update(metrics)
        else:
            self.last = {}
            for earlier in sorted(self.reports):
                self.last.update(self.reports[earlier])

    def seconds_at(self, now: float) -> float:
        """The seconds of its attempts, with those of the one that runs up to `now`."""
        began = self.began  # read once, as the display's thread calls this too
        return self.seconds + (0.0 if began is None else max(0.0, now - began))

    def attempt_ended(self) -> None:
        """Add the time of the attempt that ran, if one did."""
        if self.began is not None:
            self.seconds += max(0.0, self.heard - self.began)
            self.began = None

    def best(self, metric: str, mode: str) -> tuple[float, int] | None:
        """The best finite value of `metric`, and its first step; None if there is no such value."""
        sign = 1.0 if mode == "max" else -1.0
        candidates = [
            (sign * values[metric], -step)
            for step, values in list(self.reports.items())  # a copy: the display's thread calls this too
            if math.isfinite(values.get(metric, math.nan))  # a diverged trial's last report may be infinite
        ]
        if not candidates:
            return None
        value, negative_step = max(candidates)
        return sign * value, -negative_step


@dataclass
class SweepState:
    """All trials in the order of planning, and the draws selected for evidence.

    `not_started`, `interrupted` and `searching` are indexes of `open`, so that an event need not walk over
    all trials.
    """

    trials: dict[str, TrialState] = field(default_factory=dict)
    open: dict[str, TrialState] = field(default_factory=dict)  # the trials that have not ended
    not_started: dict[str, TrialState] = field(default_factory=dict)
    interrupted: dict[str, TrialState] = field(default_factory=dict)
    searching: dict[str, set[str]] = field(default_factory=dict)  # arm -> ids of its open search trials
    searched: dict[str, list[TrialState]] = field(default_factory=dict)  # arm -> all its search trials
    siblings: dict[tuple[str, str], list[TrialState]] = field(default_factory=dict)  # by phase and member
    selected: dict[str, list[int]] = field(default_factory=dict)  # arm -> draws
    selected_before: dict[str, list[int]] = field(
        default_factory=dict
    )  # of arms whose search an extension left alone
    audited: set[str] = field(default_factory=set)  # members that run on despite a decision to stop
    shares: dict[str, float] = field(default_factory=dict)  # arm -> its measured share of a GPU
    stages: list[Event] = field(default_factory=list)  # of the evidence: the plan's, then the extensions'
    looks: list[Event] = field(default_factory=list)
    launches: int = 0
    plan_hash: str = ""  # of the last launch or extension
    max_t: float | None = None  # of the last launch
    code: str = ""  # the code version of the last launch
    warnings: list[str] = field(default_factory=list)
    finished: str = ""  # how the last launch ended; "" while it runs

    @property
    def num_ended(self) -> int:
        return len(self.trials) - len(self.open)

    @property
    def lost(self) -> list[TrialState]:
        """The trials of the evidence that are lost; the next launch runs them again."""
        return [trial for trial in self.trials.values() if trial.is_lost and trial.phase == "evidence"]

    def siblings_of(self, trial: TrialState) -> list[TrialState]:
        """The trials of the same draw and phase, including this one."""
        return self.siblings[trial.phase, trial.member]

    def is_audited(self, trial: TrialState) -> bool:
        return trial.phase == "search" and trial.member in self.audited

    def phase_of(self, trial: TrialState) -> str:
        """The phase that a reader is told: evidence of a draw that a longer search has overtaken is none."""
        chosen = self.selected.get(trial.arm)
        return "search" if chosen is not None and trial.draw not in chosen else trial.phase

    @property
    def comparisons(self) -> list[Comparison]:
        """The comparisons of all stages after their last look, the latest stage of each."""
        return self.comparisons_of(self.looks)

    def comparisons_of(self, looks: Iterable[Event]) -> list[Comparison]:
        """The comparisons after the last of these looks at each."""
        from analysis.inference.decision import Comparison

        found: dict[tuple[str, str], Comparison] = {}
        for look in looks:
            rows = (Comparison.read(row) for row in look["comparisons"])
            found |= {row.arm_and_against: row for row in rows}
        return list(found.values())

    def beaten(self) -> set[str]:
        """The arms that are worse than another one, and get no further seeds under question best: by the
        looks of those stages whose trials are as long as the last one's, and of the same draws."""
        if not self.looks:
            return set()
        from analysis.inference.decision import beaten

        trained = self.stages[-1]["trained"]
        kept = {stage["number"] for stage in self.stages if stage["trained"] == trained}
        return beaten(self.comparisons_of(look for look in self.looks if look["stage"] in kept))

    def apply(self, event: Event) -> None:
        """Take one event in. Unknown names are passed over, so that older code reads newer journals."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_launch(self, event: Event) -> None:
        self.launches += 1
        self.plan_hash, self.max_t = event["hash"], event.get("max_t")
        self.code = event.get("code", "")
        self.finished = ""
        for trial in self.open.values():
            trial.lost = 0
        self._interrupt_running()  # the last process may have died without a finish event

    def _on_trial(self, event: Event) -> None:
        if event["trial_id"] in self.trials:
            return
        keys = ("trial_id", "arm", "draw", "values", "seed", "phase")
        trial = TrialState(**{key: event[key] for key in keys})
        self.trials[trial.trial_id] = trial
        self._set_status(trial, "not_started")
        if trial.phase == "search":
            self.selected_before.pop(trial.arm, None)
            self.searched.setdefault(trial.arm, []).append(trial)
        self.siblings.setdefault((trial.phase, trial.member), []).append(trial)

    def _on_start(self, event: Event) -> None:
        self.finished = ""
        trial = self.trials[event["trial_id"]]
        self._set_status(trial, "running")
        trial.attempts += 1
        trial.reused_from = event.get("reused_from", "")
        trial.attempt_ended()
        if not trial.reused_from:
            trial.began = trial.heard = event["time"]

    def _on_extend(self, event: Event) -> None:
        """The plan was extended: some completed trials train longer, and each arm's draws are selected
        again."""
        self.plan_hash, self.finished = event["hash"], ""
        self.selected_before |= self.selected
        self.selected.clear()
        for trial_id in event["reopened"]:
            trial = self.trials[trial_id]
            if trial.phase == "search":
                self.selected_before.pop(trial.arm, None)
            trial.reason = ""
            self._set_status(trial, "interrupted")

    def _on_report(self, event: Event) -> None:
        # Every line that is read has names of its own; one copy of each is enough.
        metrics = {sys.intern(key): float(event[key]) for key in event if key not in _NOT_METRICS}
        trial = self.trials[event["trial_id"]]
        trial.heard = event["time"]
        trial.report(int(event["step"]), metrics)

    def _on_measured(self, event: Event) -> None:
        self.shares[event["arm"]] = event["gpu"]

    def _on_decision(self, event: Event) -> None:
        if event["action"] == "audit":
            self.audited.add(event["member"])

    def _on_warning(self, event: Event) -> None:
        self.warnings.append(
            f"{event['trial_id']}: {event['text']}" if "trial_id" in event else event["text"]
        )

    def _on_retry(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        if event.get("cause") == ASKED:  # the sweep goes on, and the trial has all its retries again
            trial.failures, trial.lost, self.finished = 0, 0, ""
            if event.get("reselect"):
                self.selected.pop(trial.arm, None)
        elif event.get("cause") == LOST:
            trial.lost = 0 if trial.ended else trial.lost + 1  # ended: a new launch opens it again
        elif event.get("gpu") is None:
            trial.failures += 1
        else:  # it ran out of GPU memory, which is not counted as a failure
            trial.gpu, trial.enlarged = event["gpu"], trial.enlarged + 1
        trial.reason, trial.cause = "", ""
        trial.heard = event["time"]
        trial.attempt_ended()
        self._set_status(trial, "interrupted")

    def _on_end(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.reason, trial.cause = event.get("reason", ""), event.get("cause", "")
        trial.heard = event["time"]
        trial.attempt_ended()
        self._set_status(trial, event["status"])

    def _on_select(self, event: Event) -> None:
        self.selected[event["arm"]] = list(event["draws"])

    def _on_stage(self, event: Event) -> None:
        self.stages.append(event)

    def _on_look(self, event: Event) -> None:
        self.looks.append(event)

    def _on_mlflow(self, event: Event) -> None:
        if event["trial_id"] in self.trials:
            self.trials[event["trial_id"]].mlflow_run_id = event["run_id"]

    def _on_finish(self, event: Event) -> None:
        self.finished = event["status"]
        if self.finished == "completed" and self.open:  # of another launch, beside which this one ran
            self.finished = "interrupted"
        for trial in self.open.values():
            trial.heard = event["time"]
        self._interrupt_running()

    def _interrupt_running(self) -> None:
        for trial in self.open.values():
            if trial.status == "running":
                trial.attempt_ended()
                self._set_status(trial, "interrupted")

    def _set_status(self, trial: TrialState, status: Status) -> None:
        """Change the status, and the indexes by it."""
        trial.status = status
        for index, holds in (
            (self.open, not trial.ended),
            (self.not_started, status == "not_started"),
            (self.interrupted, status == "interrupted"),
        ):
            if holds:
                index[trial.trial_id] = trial
            else:
                index.pop(trial.trial_id, None)
        if trial.phase == "search":
            searching = self.searching.setdefault(trial.arm, set())
            (searching.discard if trial.ended else searching.add)(trial.trial_id)


def how_ended(ending: str) -> str:
    """The state of a sweep that does not run, of the status that its last launch recorded at its end; "": it
    recorded none."""
    return {"completed": FINISHED, "budget": BUDGET}.get(ending, INTERRUPTED)


def seeds_up_to(look: int, seeds: Sequence[int], stage: Event) -> Sequence[int]:
    """The first of an arm's seeds in the stage, as many as that look needs (1 is the first look); 0: none."""
    from analysis.inference.sequential import seeds_at

    counts = stage["looks"]
    return seeds[: seeds_at(len(seeds), counts[look - 1], counts[-1])] if look else ()


def member_of(arm: str, draw: int) -> str:
    return f"{arm}-d{draw}"


def read_state(journal: Path) -> SweepState:
    """The state at the end of a journal. Raises SpecError if the journal is damaged."""
    state = SweepState()
    for event in read_journal(journal):
        state.apply(event)
    return state
