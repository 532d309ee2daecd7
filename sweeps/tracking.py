"""MLflow, a mirror of the journal: one parent run a sweep, one child run a trial.

The mirror lives in a thread of its own and is fed events; whatever happens to it, training goes on. Writing
an event twice changes nothing, so `python -m sweeps.tracking sync DIR/NAME` may write all of them at any
time.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import queue
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sweeps.dotted import flatten
from sweeps.errors import SpecError
from sweeps.journal import Event, Journal, read_journal

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

RUN_STATUS = {  # of MLflow, for ours
    "completed": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
RETRY_S = 5.0
LAST_TRIES = 3  # for what is left at the end of a launch: a store that is locked for a moment is not given up
STORES = ("sqlite", "mysql", "postgresql", "mssql", "http", "https", "databricks")
MAX_METRICS, MAX_PARAMS = 1000, 100  # of one log_batch


def absolute_uri(uri: str) -> str:
    """A relative sqlite path or folder made absolute: the same store wherever it is named from."""
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return prefix + str(Path(uri.removeprefix(prefix)).resolve())
    return uri if "://" in uri else str(Path(uri).resolve())


def check_uri(uri: str) -> None:
    """Refuse a store that MLflow does not have, without loading MLflow, which is slow. Raises SpecError."""
    kind = uri.partition("://")[0].partition("+")[0] if "://" in uri else "file"
    if kind == "file" and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() == "true":
        return
    if kind not in STORES and uri != "databricks":
        why = (
            "MLflow keeps no runs in plain folders any more" if kind == "file" else "MLflow has no such store"
        )
        raise SpecError(
            f"--tracking-uri {uri}: {why}: give one of {', '.join(STORES)}, such as sqlite:///mlflow.db or "
            f"http://127.0.0.1:5000"
        )


def sweep_id(space: Mapping[str, Any]) -> str:
    """What the runs of one sweep are tagged with. The hash alone would let a sweep adopt the runs of an equal
    one whose folder was deleted."""
    return "{hash:.12}@{created}".format_map(space["resolved"])


def runs_link(uri: str, experiment_id: str, space: Mapping[str, Any]) -> str:
    """The page of MLflow's UI that shows the trials of a sweep side by side, the best first.

    An experiment's own page shows none of them, and its list of runs only the parent, closed: MLflow unfolds
    nested runs where they are sorted by something other than their creation.
    """
    server = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    objective = space["objective"]
    query = {
        "searchFilter": f"tags.role = 'trial' and tags.sweep_id = '{sweep_id(space)}'",
        "orderByKey": f"metrics.`{objective['metric']}`",
        "orderByAsc": "true" if objective["mode"] == "min" else "false",
        "compareRunsMode": "CHART",
    }
    return f"{server}/#/experiments/{experiment_id}/runs?{urlencode(query, quote_via=quote, safe='=@:/')}"


class Store:
    """The runs of one sweep in an MLflow store. Every method may be called again with the same arguments."""

    def __init__(self, uri: str, space: dict[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow.tracking import MlflowClient

        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._space = space
        self._sweep_id = sweep_id(space)
        self.experiment_id = self._experiment(uri, space["name"])
        self.run_ids: dict[str, str] = {}
        self._parent = self._adopt_runs()

    def _experiment(self, uri: str, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        # Without a place of their own, artifacts of an sqlite store would go to ./mlruns, and a bare
        # `mlflow ui` takes a folder of that name for its store.
        place = (
            str(Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts")
            if uri.startswith("sqlite")
            else None
        )
        made: str = (
            found.experiment_id if found else self._client.create_experiment(name, artifact_location=place)
        )
        self._client.set_experiment_tag(made, "mlflow.experimentKind", "custom_model_development")
        return made

    def _adopt_runs(self) -> str:
        """Find the runs of this sweep that are there already; make the parent where it is not."""
        parent, page = "", None
        while True:
            runs = self._client.search_runs(
                [self.experiment_id], f"tags.sweep_id = '{self._sweep_id}'", max_results=1000, page_token=page
            )
            for run in runs:
                if run.data.tags.get("role") == "sweep":
                    parent = run.info.run_id
                elif "trial_id" in run.data.tags:
                    self.run_ids[run.data.tags["trial_id"]] = run.info.run_id
            page = runs.token
            if not page:
                break
        if parent:
            self._client.update_run(parent, status="RUNNING")
            return parent
        name = self._space["name"]
        tags = {
            "mlflow.runName": f"{name} (sweep)",
            "role": "sweep",
            "sweep": name,
            "sweep_id": self._sweep_id,
        }
        made: str = self._client.create_run(self.experiment_id, tags=tags).info.run_id
        flat = flatten({key: value for key, value in self._space.items() if key != "resolved"})
        self._log_params(made, flat)
        self._client.log_dict(made, self._space, "sweep.yaml")
        return made

    def open_trial(self, trial: Event, start: Event) -> str:
        """The trial's run, made or gone on with; returns its id. `trial` planned it, `start` is its start."""
        trial_id = trial["trial_id"]
        if trial_id in self.run_ids:
            self._client.update_run(self.run_ids[trial_id], status="RUNNING")
            self._client.set_tag(self.run_ids[trial_id], "status", "running")
        else:
            self.run_ids[trial_id] = self._create_run(trial, start)
        # Every time: a crash may have come between the run and its params.
        arm = self._space["resolved"]["arms"][trial["arm"]]
        known = {name: arm[name] for name in ("num_params", "flops_per_sample") if arm[name] is not None}
        params = {**arm["levels"], **flatten(start["config"]), **known, "seed": trial["seed"]}
        self._log_params(self.run_ids[trial_id], params)
        return self.run_ids[trial_id]

    def _create_run(self, trial: Event, start: Event) -> str:
        draw = f" draw {trial['draw']}" if trial["values"] else ""
        tags = {
            "mlflow.runName": f"{trial['arm']}{draw} seed {trial['seed']}",
            "mlflow.parentRunId": self._parent,
            "role": "trial",
            "sweep": self._space["name"],
            "sweep_id": self._sweep_id,
            "status": "running",
            **{key: str(trial[key]) for key in ("trial_id", "arm", "seed", "draw", "phase")},
        }
        made: str = self._client.create_run(self.experiment_id, start_time=_ms(start), tags=tags).info.run_id
        return made

    def log_reports(self, trial_id: str, reports: Iterable[Event]) -> None:
        """Metrics with their step, at the time the journal has for them: writing them again adds nothing."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, float(value), _ms(report), int(report["step"]))
            for report in reports
            for name, value in report.items()
            if name not in ("time", "event", "trial_id", "step")
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self.run_ids[trial_id], metrics=metrics[start : start + MAX_METRICS])

    def close_trial(self, trial_id: str, status: str, reason: str, end_time: int) -> None:
        run_id = self.run_ids.get(trial_id)
        if run_id is not None:  # a trial can end without ever having run
            self._client.set_tag(run_id, "status", status)
            if reason:
                self._client.set_tag(run_id, "reason", reason[:5000])
            self._client.set_terminated(run_id, RUN_STATUS[status], end_time)

    def log_decision(self, trial_id: str, decision: Event) -> None:
        """How a trial's member was judged, where a reader of its run looks."""
        run_id = self.run_ids.get(trial_id)
        if run_id is not None:
            self._client.set_tag(run_id, f"rung_{decision['rung']:g}", _decision_text(decision))

    def close(self, status: str) -> None:
        self._client.set_terminated(self._parent, "FINISHED" if status == "completed" else "KILLED")

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        entries = [Param(name, str(value)) for name, value in params.items()]
        for start in range(0, len(entries), MAX_PARAMS):
            self._client.log_batch(run_id, params=entries[start : start + MAX_PARAMS])


def _ms(event: Event) -> int:
    return int(event["time"] * 1000)


def _decision_text(decision: Event) -> str:
    cutoff = "none" if decision["cutoff"] is None else f"{float(decision['cutoff']):.5g}"
    return f"{decision['action']}: value {float(decision['value']):.5g}, cut-off {cutoff}"


class Mirror:
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
        self._store: Store | None = None
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
            written = self._insist([event for event in events if event is not None], last=done)
            if done or not written:
                return

    def _insist(self, events: list[Event], last: bool) -> bool:
        """Write the events; when the store fails, again and again until it works or we are to give up."""
        for attempt in itertools.count(1):
            try:
                self.write(events)
                self.error = ""
                return True
            except Exception as error:
                self.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                logger.warning("MLflow: %s; trying again", self.error)
                if (last and attempt == LAST_TRIES) or self._give_up.wait(RETRY_S):
                    break
        return False

    def write(self, events: list[Event]) -> None:
        """Write events in their order; a trial's reports in a row go in one call."""
        if self._store is None:
            self._store = Store(self._uri, self._space)
        reports: dict[str, list[Event]] = {}
        for event in events:
            if event["event"] == "report":
                if (event["trial_id"], int(event["step"])) not in self._logged:
                    reports.setdefault(event["trial_id"], []).append(event)
                continue
            self._flush(reports)
            self._write_one(self._store, event)
        self._flush(reports)

    def _flush(self, reports: dict[str, list[Event]]) -> None:
        assert self._store is not None
        for trial_id, rows in reports.items():
            self._store.log_reports(trial_id, {int(row["step"]): row for row in reversed(rows)}.values())
            self._logged |= {(trial_id, int(row["step"])) for row in rows}
        reports.clear()

    def _write_one(self, store: Store, event: Event) -> None:
        trial_id = event.get("trial_id", "")
        match event["event"]:
            case "trial":
                self._trials[trial_id] = event
            case "start":
                run_id = store.open_trial(self._trials[trial_id], event)
                self._open.add(trial_id)
                if self._journal is not None and self._known.get(trial_id) != run_id:
                    self._known[trial_id] = run_id
                    self._journal.append("mlflow", trial_id=trial_id, run_id=run_id)
            case "decision":
                for trial in self._trials.values():
                    if trial["phase"] == "search" and event["member"] == f"{trial['arm']}-d{trial['draw']}":
                        store.log_decision(trial["trial_id"], event)
            case "end":
                store.close_trial(trial_id, event["status"], event.get("reason", ""), _ms(event))
                self._open.discard(trial_id)
            case "launch" | "finish":  # what was open when a process stopped runs no more
                for open_id in sorted(self._open):
                    store.close_trial(open_id, "interrupted", "", _ms(event))
                self._open.clear()
                if event["event"] == "finish":
                    store.close(event["status"])


def sync(folder: Path, uri: str) -> None:
    """Write a sweep's whole journal to MLflow. Raises SpecError where there is no sweep."""
    from trm.yaml import load_yaml

    if not (folder / "journal.jsonl").exists():
        raise SpecError(f"{folder}: no sweep here (no journal.jsonl); name a folder such as results/smoke")
    mirror = Mirror(absolute_uri(uri), load_yaml(folder / "sweep.yaml"))
    events = list(read_journal(folder / "journal.jsonl"))
    mirror.write([*events, {"time": events[-1]["time"], "event": "finish", "status": _last_status(events)}])


def _last_status(events: list[Event]) -> str:
    return next((event["status"] for event in reversed(events) if event["event"] == "finish"), "interrupted")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweeps.tracking", description=__doc__)
    parser.add_argument("command", choices=["sync"])
    parser.add_argument("folder", type=Path, help="the sweep's folder, DIR/NAME")
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db")
    given = parser.parse_args(arguments)
    try:
        sync(given.folder, given.tracking_uri)
    except Exception as error:
        print(f"sync: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
