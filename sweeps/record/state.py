"""The state of a sweep: what its journal says, folded event by event.

Live and after a restart the same function (`apply`) builds it, so that a resumed sweep cannot know less, or
other things, than the one that was interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeps.record.journal import Event, read_journal

Status = Literal["not_started", "running", "completed", "pruned", "diverged", "failed", "interrupted"]
ENDED: frozenset[str] = frozenset({"completed", "pruned", "diverged", "failed"})

_NOT_METRICS = frozenset({"time", "event", "trial_id"})


@dataclass
class TrialState:
    """One trial as far as it is known."""

    trial_id: str
    arm: str
    draw: int
    values: dict[str, Any]
    seed: int
    phase: str
    status: Status = "not_started"
    reason: str = ""
    attempts: int = 0
    failures: int = 0  # after which it was, or is to be, tried again
    mlflow_run_id: str = ""
    reused_from: str = ""  # SWEEP/TRIAL_ID that its reports were taken from
    gpu: float | None = None  # its share of a GPU, where running out of memory has raised it
    enlarged: int = 0  # how often it has
    reports: dict[int, dict[str, float]] = field(default_factory=dict)  # by step, in the order of arrival
    last_step: int = -1
    last: dict[str, float] = field(default_factory=dict)  # each metric's value at the highest step with it

    @property
    def member(self) -> str:
        """What a scheduler compares: an arm's draw, with all its seeds."""
        return member_of(self.arm, self.draw)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Take a report in. One at a step that was reported before, as after a restart, replaces it."""
        self.reports[step] = metrics
        if step >= self.last_step:
            self.last_step = step
            self.last.update(metrics)
        else:
            self.last = {}
            for earlier in sorted(self.reports):
                self.last.update(self.reports[earlier])

    def best(self, metric: str, mode: str) -> tuple[float, int] | None:
        """The best finite value of `metric` and its step; None where it was never reported."""
        sign = 1.0 if mode == "max" else -1.0
        found = [
            (sign * values[metric], -step)
            for step, values in list(self.reports.items())  # the display reads while the sweep writes
            if metric in values and values[metric] == values[metric]
        ]
        if not found:
            return None
        value, negative_step = max(found)
        return sign * value, -negative_step


@dataclass
class SweepState:
    """All trials in the order of planning, the decisions that were taken, and the draws that were chosen."""

    trials: dict[str, TrialState] = field(default_factory=dict)
    open: dict[str, TrialState] = field(default_factory=dict)  # those that have not ended
    siblings: dict[tuple[str, str], list[TrialState]] = field(default_factory=dict)  # by phase and member
    decisions: list[Event] = field(default_factory=list)
    selected: dict[str, list[int]] = field(default_factory=dict)
    audited: set[str] = field(default_factory=set)  # members of the search that were to stop and run on
    shares: dict[str, float] = field(default_factory=dict)  # of a GPU, by arm, where it was measured
    launches: int = 0
    plan_hash: str = ""  # of the plan that was launched last
    max_t: float | None = None  # its horizon
    code: str = ""  # the version of the code that launched it
    warnings: list[str] = field(default_factory=list)
    finished: str = ""

    @property
    def how_many_ended(self) -> int:
        return len(self.trials) - len(self.open)

    def siblings_of(self, trial: TrialState) -> list[TrialState]:
        """The trials of the same draw and phase, itself among them."""
        return self.siblings[trial.phase, trial.member]

    def is_audited(self, trial: TrialState) -> bool:
        return trial.phase == "search" and trial.member in self.audited

    def phase_of(self, trial: TrialState) -> str:
        """The phase that a reader is told: evidence of a draw that a longer search has overtaken is none."""
        chosen = self.selected.get(trial.arm)
        return "search" if chosen is not None and trial.draw not in chosen else trial.phase

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
        for trial in self.open.values():  # what ran when the last process died is not running now
            if trial.status == "running":
                trial.status = "interrupted"

    def _on_trial(self, event: Event) -> None:
        if event["trial_id"] in self.trials:
            return
        keys = ("trial_id", "arm", "draw", "values", "seed", "phase")
        trial = TrialState(**{key: event[key] for key in keys})
        self.trials[trial.trial_id] = self.open[trial.trial_id] = trial
        self.siblings.setdefault((trial.phase, trial.member), []).append(trial)

    def _on_start(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.status, trial.attempts = "running", trial.attempts + 1
        trial.reused_from = event.get("reused_from", "")

    def _on_extend(self, event: Event) -> None:
        """The plan has grown: completed trials may have further to go, and an arm's best draw may change."""
        self.plan_hash, self.finished = event["hash"], ""
        self.selected.clear()
        for trial_id in event["reopened"]:
            trial = self.trials[trial_id]
            trial.status, trial.reason, self.open[trial_id] = "interrupted", "", trial

    def _on_report(self, event: Event) -> None:
        metrics = {key: float(value) for key, value in event.items() if key not in _NOT_METRICS}
        self.trials[event["trial_id"]].report(int(event["step"]), metrics)

    def _on_measured(self, event: Event) -> None:
        self.shares[event["arm"]] = event["gpu"]

    def _on_decision(self, event: Event) -> None:
        self.decisions.append(event)
        if event["action"] == "audit":
            self.audited.add(event["member"])

    def _on_warning(self, event: Event) -> None:
        self.warnings.append(
            f"{event['trial_id']}: {event['text']}" if "trial_id" in event else event["text"]
        )

    def _on_retry(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.status = "interrupted"
        if event.get("gpu") is None:
            trial.failures += 1
        else:  # its memory ran out, and it waits for more
            trial.gpu, trial.enlarged = event["gpu"], trial.enlarged + 1

    def _on_end(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.status, trial.reason = event["status"], event.get("reason", "")
        self.open.pop(trial.trial_id, None)

    def _on_select(self, event: Event) -> None:
        self.selected[event["arm"]] = list(event["draws"])

    def _on_mlflow(self, event: Event) -> None:
        if event["trial_id"] in self.trials:
            self.trials[event["trial_id"]].mlflow_run_id = event["run_id"]

    def _on_finish(self, event: Event) -> None:
        self.finished = event["status"]
        for trial in self.open.values():
            if trial.status == "running":
                trial.status = "interrupted"


def member_of(arm: str, draw: int) -> str:
    return f"{arm}-d{draw}"


def read_state(journal: Path) -> SweepState:
    """The state that a journal comes to. Raises SpecError where it is damaged."""
    state = SweepState()
    for event in read_journal(journal):
        state.apply(event)
    return state
