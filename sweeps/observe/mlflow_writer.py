"""MLflow, a mirror of the journal: one parent run a sweep, one child run a trial.

The mirror lives in a thread of its own and is fed events; whatever happens to it, training goes on. Writing
an event twice changes nothing, so `python -m sweeps.tracking sync DIR/NAME` may write all of them at any
time.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sweeps.observe.mlflow_runs import MlflowRuns, absolute_uri, milliseconds, runs_link
from sweeps.record.journal import Event, Journal, read_journal
from sweeps.record.secrets import without_secret
from sweeps.record.state import member_of
from sweeps.space.errors import SpecError

logger = logging.getLogger(__name__)

RETRY_S = 5.0
LAST_TRIES = 3  # for what is left at the end of a launch: a store that is locked for a moment is not given up


class MlflowWriter:
    """Takes events from the journal (call it with each) and writes them to MLflow from its own thread."""

    def __init__(
        self,
        uri: str,
        space: dict[str, Any],
        journal: Journal | None = None,
        history: Iterable[Event] = (),
    ) -> None:
        self._uri = uri
        self._space = space
        self._journal = journal
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._trials: dict[str, Event] = {}
        self._open: set[str] = set()  # trials whose runs are RUNNING
        # The run that the journal names for each trial.
        self._known = {e["trial_id"]: e["run_id"] for e in history if e["event"] == "mlflow"}
        self._logged: set[tuple[str, int]] = set()  # (trial, step): what is reported again is logged once
        self._there: dict[str, dict[int, int]] = {}  # trial -> step -> time, as the store had it before us
        self._store: MlflowRuns | None = None
        self._ending = threading.Event()
        self._give_up = threading.Event()
        self.error = ""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        for event in history:
            self(event)

    def start(self) -> None:
        self._thread.start()

    def __call__(self, event: Event) -> None:
        self._events.put(event)

    def close(self, timeout: float) -> str:
        """Write what is left, for `timeout` seconds at most. Returns why not all was written, or ''."""
        self._ending.set()
        self._events.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._give_up.set()
            return self.error or f"the store did not answer within {timeout:g} s"
        return self.error

    @property
    def link(self) -> str:
        """Where MLflow's UI shows the sweep; '' as long as the store has not answered."""
        return runs_link(self._uri, self._store.experiment_id, self._space) if self._store else ""

    def _work(self) -> None:
        while True:
            events = [self._events.get()]
            while not self._events.empty():
                events.append(self._events.get())
            done = events[-1] is None
            written = self._insist([event for event in events if event is not None])
            if done or not written:
                return

    def _insist(self, events: list[Event]) -> bool:
        """Write the events; when the store fails, again and again until it works or we are to give up."""
        tries = LAST_TRIES
        while True:
            try:
                self.write(events)
                self.error = ""
                return True
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else ""
                self.error = f"{type(error).__name__}: {reason.replace(self._uri, without_secret(self._uri))}"
                logger.warning("MLflow: %s; trying again", self.error)
                tries -= self._ending.is_set()
                if not tries or self._give_up.wait(RETRY_S):
                    return False

    def write(self, events: list[Event]) -> None:
        """Write events in their order; a trial's reports in a row go in one call."""
        if self._store is None:
            self._store = MlflowRuns(self._uri, self._space)
        reports: dict[str, list[Event]] = {}
        for event in events:
            if event["event"] == "report":
                if not self._has(event):
                    reports.setdefault(event["trial_id"], []).append(event)
                continue
            self._flush(reports)
            self._write_one(self._store, event)
        self._flush(reports)

    def _has(self, report: Event) -> bool:
        """Whether the store has this step already, as another report. The very same one, with its time, may
        have been written in part, and is written again, which changes nothing."""
        trial_id, step = report["trial_id"], int(report["step"])
        before = self._there.get(trial_id, {}).get(step)
        return (trial_id, step) in self._logged or before not in (None, milliseconds(report))

    def _flush(self, reports: dict[str, list[Event]]) -> None:
        assert self._store is not None
        for trial_id, rows in reports.items():
            self._store.log_reports(trial_id, {int(row["step"]): row for row in reversed(rows)}.values())
            self._logged |= {(trial_id, int(row["step"])) for row in rows}
        reports.clear()

    def _write_one(self, store: MlflowRuns, event: Event) -> None:
        trial_id = event.get("trial_id", "")
        match event["event"]:
            case "trial":
                self._trials[trial_id] = event
            case "start":
                is_there = trial_id in store.run_ids
                run_id = store.open_trial(self._trials[trial_id], event)
                if is_there and trial_id not in self._there:
                    self._there[trial_id] = store.logged(trial_id)
                self._open.add(trial_id)
                if self._journal is not None and self._known.get(trial_id) != run_id:
                    self._known[trial_id] = run_id
                    self._journal.append("mlflow", trial_id=trial_id, run_id=run_id)
            case "decision":
                for trial in self._trials.values():
                    if trial["phase"] == "search" and event["member"] == member_of(
                        trial["arm"], trial["draw"]
                    ):
                        store.log_decision(trial["trial_id"], event)
            case "end":
                store.close_trial(trial_id, event["status"], event.get("reason", ""), milliseconds(event))
                self._open.discard(trial_id)
            case "launch" | "finish":  # what was open when a process stopped runs no more
                for open_id in sorted(self._open):
                    store.close_trial(open_id, "interrupted", "", milliseconds(event))
                self._open.clear()
                if event["event"] == "finish":
                    store.close(event["status"])


def sync(folder: Path, uri: str) -> None:
    """Write a sweep's whole journal to MLflow. Raises SpecError where there is no sweep."""
    from trm.settings.yaml import load_yaml

    if not (folder / "journal.jsonl").exists():
        raise SpecError(f"{folder}: no sweep here (no journal.jsonl); name a folder such as results/smoke")
    space, events = load_yaml(folder / "sweep.yaml"), list(read_journal(folder / "journal.jsonl"))
    mirror = MlflowWriter(absolute_uri(uri), space)
    mirror.write([*events, {"time": events[-1]["time"], "event": "finish", "status": _last_status(events)}])
    attach_report(folder, uri)


def attach_report(folder: Path, uri: str) -> None:
    """Put the report that is in a sweep's folder, with its figures and tables, on the sweep's parent run."""
    from trm.settings.yaml import load_yaml

    MlflowRuns(absolute_uri(uri), load_yaml(folder / "sweep.yaml"), reopen=False).attach(folder)


def _last_status(events: list[Event]) -> str:
    return next((event["status"] for event in reversed(events) if event["event"] == "finish"), "interrupted")
