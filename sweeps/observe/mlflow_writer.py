"""Copies the journal to MLflow: one parent run per sweep, one child run per trial.

`sweeps.launch` adds an MlflowWriter to the journal's listeners; `python -m sweeps.tracking sync DIR/NAME`
calls `sync`. Both write through `observe.mlflow_runs`. The writer works in its own thread, so that an MLflow
store that fails or is slow does not disturb training. Writing an event twice changes nothing, so that `sync`
can write the whole journal at any time.
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
LAST_TRIES = 3  # at the end of a launch, as a store may be locked for a moment


class MlflowWriter:
    """A listener of the journal that writes its events to MLflow from its own thread.

    `space` is the content of sweep.yaml. `history` holds the events of earlier launches, which are written
    again. The ids of MLflow runs are recorded in `journal`.
    """

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
        # trial -> run id, as recorded in the journal
        self._recorded = {e["trial_id"]: e["run_id"] for e in history if e["event"] == "mlflow"}
        self._written: set[tuple[str, int]] = set()  # (trial, step) of the reports written by this process
        self._stored: dict[str, dict[int, int]] = {}  # trial -> step -> milliseconds, from earlier processes
        self._store: MlflowRuns | None = None
        self._ending = threading.Event()
        self._give_up = threading.Event()
        self.error = ""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        for event in history:
            self(event)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Queue an event of the journal."""
        self._events.put(event)

    def close(self, timeout: float) -> str:
        """Write the remaining events, for at most `timeout` seconds. Returns why some are missing, or ''."""
        self._ending.set()
        self._events.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._give_up.set()
            return self.error or f"the store did not answer within {timeout:g} s"
        return self.error

    @property
    def link(self) -> str:
        """The sweep's page in MLflow's UI; '' until the store has been reached."""
        return runs_link(self._uri, self._store.experiment_id, self._space) if self._store else ""

    def _work(self) -> None:
        while True:
            events = [self._events.get()]
            while not self._events.empty():
                events.append(self._events.get())
            done = events[-1] is None
            written = self._write_with_retries([event for event in events if event is not None])
            if done or not written:
                return

    def _write_with_retries(self, events: list[Event]) -> bool:
        """Write the events, and retry every RETRY_S if the store fails. Returns False if it gave up: after
        LAST_TRIES once the launch is ending, or at the timeout of `close`."""
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
        """Write events in their order. Consecutive reports of a trial are written in one call."""
        if self._store is None:
            self._store = MlflowRuns(self._uri, self._space)
        reports: dict[str, list[Event]] = {}
        for event in events:
            if event["event"] == "report":
                if not self._is_written(event):
                    reports.setdefault(event["trial_id"], []).append(event)
                continue
            self._write_reports(self._store, reports)
            self._write_event(self._store, event)
        self._write_reports(self._store, reports)

    def _is_written(self, report: Event) -> bool:
        """Whether the store has another report of this step. If it has this same report (by its time), it may
        have only a part of it, so the report is written again."""
        trial_id, step = report["trial_id"], int(report["step"])
        stored_time = self._stored.get(trial_id, {}).get(step)
        return (trial_id, step) in self._written or stored_time not in (None, milliseconds(report))

    def _write_reports(self, store: MlflowRuns, reports: dict[str, list[Event]]) -> None:
        """Write the reports of each trial, and empty `reports`. Of two reports of a step the first counts."""
        for trial_id, rows in reports.items():
            store.log_reports(trial_id, {int(row["step"]): row for row in reversed(rows)}.values())
            self._written |= {(trial_id, int(row["step"])) for row in rows}
        reports.clear()

    def _write_event(self, store: MlflowRuns, event: Event) -> None:
        trial_id = event.get("trial_id", "")
        match event["event"]:
            case "trial":
                self._trials[trial_id] = event
            case "start":
                self._open_run(store, trial_id, event)
            case "decision":
                for trial in self._trials.values():
                    member = member_of(trial["arm"], trial["draw"])
                    if trial["phase"] == "search" and event["member"] == member:
                        store.log_decision(trial["trial_id"], event)
            case "end":
                store.close_trial(trial_id, event["status"], event.get("reason", ""), milliseconds(event))
                self._open.discard(trial_id)
            case "launch" | "finish":  # trials that ran when the last process stopped no longer run
                for open_id in sorted(self._open):
                    store.close_trial(open_id, "interrupted", "", milliseconds(event))
                self._open.clear()
                if event["event"] == "finish":
                    store.close(event["status"])

    def _open_run(self, store: MlflowRuns, trial_id: str, start: Event) -> None:
        """Create or reopen the trial's run, and record its id in the journal."""
        existed = trial_id in store.run_ids
        run_id = store.open_trial(self._trials[trial_id], start)
        if existed and trial_id not in self._stored:
            self._stored[trial_id] = store.logged_steps(trial_id)
        self._open.add(trial_id)
        if self._journal is not None and self._recorded.get(trial_id) != run_id:
            self._recorded[trial_id] = run_id
            self._journal.append("mlflow", trial_id=trial_id, run_id=run_id)


def sync(folder: Path, uri: str) -> None:
    """Write a sweep's whole journal and its report to MLflow. Raises SpecError if the folder has no
    journal."""
    from trm.settings.yaml import load_yaml

    if not (folder / "journal.jsonl").exists():
        raise SpecError(f"{folder}: no sweep here (no journal.jsonl); name a folder such as results/smoke")
    space, events = load_yaml(folder / "sweep.yaml"), list(read_journal(folder / "journal.jsonl"))
    writer = MlflowWriter(absolute_uri(uri), space)
    writer.write([*events, {"time": events[-1]["time"], "event": "finish", "status": _last_status(events)}])
    attach_report(folder, uri)


def attach_report(folder: Path, uri: str) -> None:
    """Attach the report in a sweep's folder, with its figures and tables, to the sweep's parent run."""
    from trm.settings.yaml import load_yaml

    MlflowRuns(absolute_uri(uri), load_yaml(folder / "sweep.yaml"), reopen=False).attach(folder)


def _last_status(events: list[Event]) -> str:
    return next((event["status"] for event in reversed(events) if event["event"] == "finish"), "interrupted")
