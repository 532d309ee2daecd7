"""Copies the journal to MLflow: one parent run per sweep, one child run per trial.

The process of a launch (`observe.mlflow_child`) follows a journal that grows; `sync` writes that of a sweep
that does not run. Both read the journal's file from the place up to which mlflow.json says that all
is in the store. What was written and not yet noted there is written again after a crash, which changes
nothing: runs are found by their tags, and a metric's value has the journal's time, which makes it the same
value to MLflow.

A trial that goes on from a checkpoint repeats steps. Tables keep the last value of a step. MLflow deletes no
value and shows the latest in time, so that a repeated value is written where it differs, and the latest is
that of the tables; a chart then shows both.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from analysis.format import UNITS, title_of
from sweeps.observe.mlflow_runs import (
    MAX_PARAM,
    RUN_STATUS,
    MlflowRuns,
    Refused,
    absolute_uri,
    safe_name,
)
from sweeps.observe.mlflow_view import view_key, view_link, view_of
from sweeps.record.file_names import JOURNAL, SPACE
from sweeps.record.folder import sweep_id
from sweeps.record.journal import Event
from sweeps.record.mlflow_file import FILE, MlflowFile
from sweeps.record.secrets import without_secret
from sweeps.record.state import member_of
from sweeps.space.errors import SpecError
from trm.settings.overrides import flatten
from trm.settings.yaml import load_yaml

logger = logging.getLogger(__name__)

EVERY_S = 1.0  # between two looks into the journal: the reports of a trial within it are one call
SAVE_S = 0.5  # the least time between two writes of mlflow.json while a batch is being sent
CHUNK = 4_000_000  # bytes of the journal in one batch
PATIENCE_S = 30.0  # of `sync`, with a store that fails
_SUMMARY = ("mean", "low", "high")  # of an arm, as summary.csv has them
_NOT_METRICS = ("time", "event", "trial_id", "step")


class MlflowWriter:
    """Writes one sweep's journal to one store. Create it under `writing(folder)`.

    `checkpoints` is the folder or URL of the sweep's checkpoints, '' if it is not known. A store that fails
    is tried again for `patience_s` seconds; None: for ever. With `whole` the journal is written from its
    start, whatever mlflow.json says.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        checkpoints: str = "",
        patience_s: float | None = None,
        whole: bool = False,
    ) -> None:
        self._folder, self._uri = folder, absolute_uri(uri)
        self._space: dict[str, Any] = load_yaml(folder / SPACE)
        self._checkpoints = without_secret(checkpoints)
        self._file = MlflowFile.read(folder)
        self._saved = 0.0
        self._position = 0  # in bytes: the journal has been read up to here
        self._last: Event = {"time": 0.0}  # of the journal, as far as it has been read
        self._is_running = False  # whether the last launch has not written its `finish`
        self._trials: dict[str, Event] = {}
        self._members: dict[str, list[str]] = {}  # member of the search -> its trials
        self._open: dict[str, None] = {}  # trials whose runs are RUNNING
        # Of trials that have reported and not ended: step -> metric -> the value that is in the store
        self._stored: dict[str, dict[int, dict[str, float]]] = {}
        store = without_secret(self._uri)
        if self._file.store != store:
            self._file = MlflowFile(store)
        if whole:
            self._file.offset = 0
        self._file.notes, self._file.error = [], ""
        self._runs = MlflowRuns(self._uri, self._answered, self._failing, self._note, patience_s)
        self._connect()

    @property
    def notes(self) -> list[str]:
        """What the store has refused."""
        return self._file.notes

    # mlflow.json

    def _answered(self) -> None:
        if self._file.error or time.monotonic() - self._saved > SAVE_S:
            self._file.error = ""
            self._save()

    def _failing(self, reason: str) -> None:
        self._file.error = reason
        self._save()

    def _note(self, text: str) -> None:
        if text not in self._file.notes:
            logger.warning("MLflow: %s", text)
            self._file.notes.append(text)

    def _save(self) -> None:
        self._saved = time.monotonic()
        try:
            self._file.write(self._folder)
        except OSError as error:  # a full disk: the same is sent again later
            logger.warning("MLflow: %s cannot be written (%s)", self._folder / FILE, error)

    # Experiment and parent run

    def _connect(self) -> None:
        """Find or make experiment and parent run, and learn what the store has."""
        file, space = self._file, self._space
        experiment_id = self._runs.open_experiment(space["name"])
        found: dict[str, str] = {}
        for run in self._runs.find(experiment_id, sweep_id(space)):
            trial_id, run_id = run.data.tags.get("trial_id", ""), run.info.run_id
            if trial_id not in found or run_id in (file.parent_run_id, file.runs.get(trial_id)):
                found[trial_id] = run_id
        parent = found.pop("", "")
        if (file.experiment_id, file.parent_run_id) != (experiment_id, parent):  # other runs than noted
            self._file = file = MlflowFile(file.store, experiment_id)
        has_search = bool(space.get("tune"))
        file.link = self._share_view("evidence" if has_search else "")
        file.search_link = self._share_view("search") if has_search else ""
        self._save()
        if not self._reaches(file.offset):
            file.offset = 0
        file.runs = found
        file.parent_run_id = parent or self._create_parent(experiment_id)
        self._runs.log_space(file.parent_run_id, space)  # again: the sweep may have been extended
        self._save()

    def _share_view(self, phase: str) -> str:
        """The link to a view of the sweep's trials, those of `phase` if it is given."""
        key = view_key(self._space, phase)
        self._runs.share_view(self._file.experiment_id, key, view_of(self._space, phase))
        return view_link(self._uri, self._file.experiment_id, key)

    def _create_parent(self, experiment_id: str) -> str:
        name = self._space["name"]
        tags = {
            "mlflow.runName": f"{name} (sweep)",
            "role": "sweep",
            "sweep": name,
            "sweep_id": sweep_id(self._space),
        }
        run_id = self._runs.create(experiment_id, tags, self._begun())
        flat = flatten({key: value for key, value in self._space.items() if key != "resolved"})
        self._runs.log(run_id, params=_params(flat))
        return run_id

    def _begun(self) -> int | None:
        """When the sweep began, in milliseconds; None if it is beginning now."""
        with (self._folder / JOURNAL).open("rb") as file:
            line = file.readline()
        return _milliseconds(json.loads(line)) if line.endswith(b"\n") else None

    # The journal

    def catch_up(self) -> None:
        """Write what the journal has and the store lacks."""
        while events := self._read():
            if self._position <= self._file.offset:
                for event in events:
                    self._fold(event)
                continue
            self._write(events)
            self._file.offset = self._position
            self._save()

    def follow(self, ending: threading.Event) -> None:
        """Write what is there and what comes, until `ending` is set; then what is there still."""
        while not ending.wait(EVERY_S):
            self.catch_up()
        self.catch_up()

    def _read(self) -> list[Event]:
        """The next events, up to CHUNK bytes and not across the place up to which all is in the store. A last
        line without its newline is not there yet."""
        path = self._folder / JOURNAL
        is_stored = self._position < self._file.offset
        with path.open("rb") as file:
            file.seek(self._position)
            content = file.read(min(self._file.offset - self._position, CHUNK) if is_stored else CHUNK)
            if b"\n" not in content:
                content += file.readline()
        content = content[: content.rfind(b"\n") + 1]
        self._position += len(content)
        events: list[Event] = [json.loads(line) for line in content.splitlines()]
        for event in events:
            self._last = event
            self._is_running = event["event"] != "finish" and (self._is_running or event["event"] == "launch")
        return events

    def _reaches(self, offset: int) -> bool:
        """Whether the journal has a line that ends at `offset`: its end may have been lost."""
        with (self._folder / JOURNAL).open("rb") as file:
            file.seek(max(0, offset - 1))
            return offset == 0 or file.read(1) == b"\n"

    def _fold(self, event: Event) -> None:
        """Take in an event that is in the store."""
        trial_id = event.get("trial_id", "")
        match event["event"]:
            case "trial":
                self._plan(event)
            case "start":
                self._open[trial_id] = None
            case "end":
                self._open.pop(trial_id, None)
            case "launch" | "finish":
                self._open.clear()

    def _plan(self, trial: Event) -> None:
        self._trials[trial["trial_id"]] = trial
        if trial["phase"] == "search":
            self._members.setdefault(member_of(trial["arm"], trial["draw"]), []).append(trial["trial_id"])

    def _write(self, events: Sequence[Event]) -> None:
        """Write events; those of one trial together, as far as no other event comes between."""
        by_trial: dict[str, list[Event]] = {}
        for event in events:
            match event["event"]:
                case "trial":
                    self._plan(event)
                case "start" | "report" | "end":
                    by_trial.setdefault(event["trial_id"], []).append(event)
                case "decision":
                    for trial_id in self._members.get(event["member"], ()):
                        by_trial.setdefault(trial_id, []).append(event)
                case "launch":
                    self._write_trials(by_trial)
                    self._close_open(event)  # the last process may have died without a `finish`
                    self._runs.set_status(self._file.parent_run_id, "RUNNING")
                case "finish":
                    self._write_trials(by_trial)
                    self._close(event)
        self._write_trials(by_trial)

    def _write_trials(self, by_trial: dict[str, list[Event]]) -> None:
        for trial_id, events in by_trial.items():
            try:
                self._write_trial(trial_id, events)
            except Refused as error:
                self._note(f"the run of {trial_id} is not in MLflow, which refuses it: {error}")
        by_trial.clear()

    def _write_trial(self, trial_id: str, events: Sequence[Event]) -> None:
        """Write what became of one trial, in as few calls as can be."""
        run_id = self._file.runs.get(trial_id)
        metrics: list[tuple[str, float, int, int]] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        end: Event | None = None
        for event in events:
            match event["event"]:
                case "start":
                    params = self._params(trial_id, event)
                    if run_id is None:
                        run_id = self._create_run(trial_id, event)
                    else:
                        there = self._runs.data_of(run_id)
                        params, changed = _new_params(there.params, params)
                        tags |= {**changed, "status": "running"}
                        tags.pop("reason", None)
                        if there.tags.get("reason"):  # of the attempt before
                            tags["reason"] = ""
                        if trial_id not in self._open:
                            self._runs.set_status(run_id, "RUNNING")
                    self._open[trial_id] = None
                    if event.get("reused_from"):
                        tags["reused_from"] = event["reused_from"]
                    end = None
                case "report":
                    if run_id is not None:  # the store may have refused it
                        metrics += self._new_points(trial_id, run_id, event)
                case "decision":
                    rung = f"{event['rung']:g}".replace("+", "")  # of 2e+09, which MLflow refuses in a name
                    tags[f"rung_{rung}"] = _decision_text(event)
                    if event["action"] == "audit":
                        tags["audited"] = "true"
                case "end":
                    tags["status"] = event["status"]
                    if event.get("reason"):
                        tags["reason"] = event["reason"]
                    end = event
        if run_id is None:  # a trial that was stopped before its start has no run
            return
        self._runs.log(run_id, metrics, params, tags)
        if end is not None:
            self._end_run(trial_id, end["status"], end)

    def _create_run(self, trial_id: str, start: Event) -> str:
        trial = self._trials[trial_id]
        draw = f" draw {trial['draw']}" if trial["values"] else ""
        tags = {
            "mlflow.runName": f"{trial['arm']}{draw} seed {trial['seed']}",
            "mlflow.parentRunId": self._file.parent_run_id,
            "role": "trial",
            "sweep": self._space["name"],
            "sweep_id": sweep_id(self._space),
            "status": "running",
            **{key: str(trial[key]) for key in ("trial_id", "arm", "seed", "draw", "phase")},
        }
        if self._checkpoints:
            tags["checkpoints"] = f"{self._checkpoints}/{trial_id}"
        run_id = self._runs.create(self._file.experiment_id, tags, _milliseconds(start))
        self._file.runs[trial_id] = run_id
        self._stored[trial_id] = {}
        return run_id

    def _params(self, trial_id: str, start: Event) -> dict[str, str]:
        trial = self._trials[trial_id]
        arm = self._space["resolved"]["arms"][trial["arm"]]
        sizes = {name: arm[name] for name in ("num_params", "flops_per_sample") if arm[name] is not None}
        # MLflow's charts can group and colour by a param, but not by a tag.
        labels = {"arm": trial["arm"], "seed": trial["seed"]}
        return _params({**arm["levels"], **flatten(start["config"], into_lists=True), **sizes, **labels})

    def _new_points(self, trial_id: str, run_id: str, report: Event) -> Iterator[tuple[str, float, int, int]]:
        """The report's metrics, but for those that the store has at this step with the same value."""
        if trial_id not in self._stored:
            self._stored[trial_id] = self._runs.points_of(run_id)
        step = int(report["step"])
        points = self._stored[trial_id].setdefault(step, {})
        for metric, value in _metrics(report):
            name = safe_name(metric)
            if not _same(points.get(name), value):
                points[name] = value
                yield name, value, _milliseconds(report), step

    def _end_run(self, trial_id: str, status: str, event: Event) -> None:
        self._runs.set_status(self._file.runs[trial_id], RUN_STATUS[status], _milliseconds(event))
        self._open.pop(trial_id, None)
        self._stored.pop(trial_id, None)

    def _close_open(self, event: Event) -> None:
        """End the runs of trials that no longer run."""
        for trial_id in list(self._open):
            if trial_id in self._file.runs:
                self._runs.log(self._file.runs[trial_id], tags={"status": "interrupted"})
                self._end_run(trial_id, "interrupted", event)
        self._open.clear()

    def _close(self, finish: Event) -> None:
        self._close_open(finish)
        status = "FINISHED" if finish["status"] == "completed" else "KILLED"
        self._runs.set_status(self._file.parent_run_id, status, _milliseconds(finish))

    # The end

    def close_runs(self) -> None:
        """End all runs of a sweep whose last process was killed: none of its trials runs any more."""
        if self._is_running:
            self._close({**self._last, "status": "interrupted"})

    def attach(self) -> None:
        """Attach the report, its figures and tables to the parent run, with each arm's mean as a metric and
        the ranking as the description."""
        parent = self._file.parent_run_id
        known = {parent, *self._file.runs.values()}
        self._runs.remove_doubles(self._file.experiment_id, sweep_id(self._space), known)
        self._runs.attach(parent, self._folder)
        summary = self._folder / "summary.csv"
        if summary.exists():
            with summary.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            metrics = [
                (safe_name(f"summary/{row['arm']}/{name}"), float(row[name]), _milliseconds(self._last), 0)
                for row in rows
                for name in _SUMMARY
                if row.get(name)
            ]
            self._runs.log(parent, metrics, tags={"mlflow.note.content": self._description(rows)})
        self._save()

    def _description(self, rows: Sequence[Mapping[str, str]]) -> str:
        """The ranking as a Markdown table. `rows` are those of summary.csv."""
        metric = self._space["objective"]["metric"]
        unit = UNITS[self._space["resolved"].get("units", {}).get(metric, "none")]
        lines = [
            f"| arm | {title_of(metric, unit)} | 95% interval | seeds | verdict |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            mean, low, high = (unit.text(float(row[key])) if row.get(key) else "" for key in _SUMMARY)
            interval = f"[{low}, {high}]" if low and high else ""
            arm = row["arm"].replace("|", "\\|")
            lines.append(f"| {arm} | {mean} | {interval} | {row['n']} | {row.get('verdict', '')} |")
        return "\n".join(lines)


def _metrics(report: Event) -> list[tuple[str, float]]:
    return [(name, float(value)) for name, value in report.items() if name not in _NOT_METRICS]


def _params(values: Mapping[str, Any]) -> dict[str, str]:
    return {safe_name(name): str(value)[:MAX_PARAM] for name, value in values.items()}


def _new_params(there: Mapping[str, str], params: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The params that a run lacks, which has those `there`; and tags for those that it has with another
    value, as MLflow cannot change a param, such as a horizon that was extended."""
    changed = {f"now.{name}": value for name, value in params.items() if there.get(name, value) != value}
    return {name: value for name, value in params.items() if name not in there}, changed


def _same(one: float | None, other: float) -> bool:
    return one == other or (one is not None and math.isnan(one) and math.isnan(other))


def _milliseconds(event: Event) -> int:
    return int(event["time"] * 1000)


def _decision_text(decision: Event) -> str:
    tied = f", tied with {decision['tied']}" if decision.get("tied") else ""
    cutoff = "none" if decision["cutoff"] is None else f"{float(decision['cutoff']):.5g}"
    return f"{decision['action']}: value {float(decision['value']):.5g}, cut-off {cutoff}{tied}"


@contextmanager
def writing(folder: Path, timeout_s: float) -> Iterator[None]:
    """Be the only process that writes this sweep to MLflow. Raises SpecError if another one is."""
    (folder / "logs").mkdir(exist_ok=True)
    try:
        with FileLock(folder / "logs" / ".lock", timeout=timeout_s, fallback_to_soft=False):
            yield
    except Timeout as error:
        raise SpecError(
            f"{folder}: this sweep is running, and writes to MLflow itself: wait for its end"
        ) from error


def sync(folder: Path, uri: str, checkpoints: str = "", whole: bool = True) -> list[str]:
    """Write a sweep that does not run to MLflow, and its report. Returns what the store refused. The tables
    are written again, as they have the ids of the runs.

    `checkpoints` is the folder or URL of the sweep's checkpoints, if it is not in `folder`. The whole journal
    is compared with the store, which may have lost runs or values; without `whole` only what is new since
    the last write.
    Raises SpecError if the folder has no journal or the sweep is running, and the store's own errors.
    """
    from sweeps.record.tables import rebuild  # it loads pandas: the process of a launch need not wait

    if not (folder / JOURNAL).exists():
        raise SpecError(f"{folder}: no sweep here (no {JOURNAL}); name a folder such as results/smoke")
    beside = folder.resolve() / "checkpoints"
    checkpoints = checkpoints or (str(beside) if beside.is_dir() else "")
    with writing(folder, timeout_s=1.0):
        writer = MlflowWriter(folder, uri, checkpoints, PATIENCE_S, whole)
        writer.catch_up()
        writer.close_runs()
        writer.attach()
    rebuild(folder)  # with the ids of the runs
    return writer.notes
