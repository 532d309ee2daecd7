"""The runs of an MLflow store: creates, finds, writes and closes them.

A call that fails for a moment is tried again; what the store refuses for good is left out, and noted.
`observe.mlflow_writer` decides what is written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sweeps.record.file_names import REPORT, SPACE
from sweeps.record.secrets import without_secret
from sweeps.space.errors import SpecError

if TYPE_CHECKING:
    from mlflow.entities import Run, RunData
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

RUN_STATUS = {  # our status -> MLflow's
    "completed": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
STORES = ("sqlite", "mysql", "postgresql", "mssql", "http", "https", "databricks")
VIEW_TAG = "mlflow.sharedViewState."  # of an experiment; then the view's key

# MLflow's own limits
MAX_METRICS, MAX_PARAMS = 1000, 100  # in one call of log_batch: metrics, params and tags; params, or tags
MAX_NAME, MAX_VALUE = 250, 5000  # characters of a metric's, param's, tag's or run's name, and of a tag
MAX_PARAM = 6000  # characters of a param's value; MLflow would cut it, and then find another value there
MAX_STEP = 2**63 - 1

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # between two tries of a call
TRIES = 3  # after which a store that takes other writes is taken to refuse this one
REFUSED_AT_ONCE = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"}
NEVER_REFUSED = "TEMPORARILY_UNAVAILABLE"  # such as a locked or full database


def absolute_uri(uri: str) -> str:
    """The URI with a relative sqlite path or folder made absolute."""
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return prefix + str(Path(uri.removeprefix(prefix)).resolve())
    return uri if "://" in uri or uri == "databricks" else str(Path(uri).resolve())


def check_uri(uri: str) -> None:
    """Raise SpecError if MLflow has no such kind of store. Does not import MLflow, which is slow."""
    kind = uri.partition("://")[0].partition("+")[0] if "://" in uri else "file"
    if kind == "file" and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() == "true":
        return
    if kind not in STORES and uri != "databricks":
        why = (
            "MLflow no longer stores runs in plain folders" if kind == "file" else "MLflow has no such store"
        )
        raise SpecError(
            f"--tracking-uri {without_secret(uri)}: {why}: give one of {', '.join(STORES)}, such as "
            f"sqlite:///mlflow.db or http://127.0.0.1:5000"
        )


def safe_name(name: str) -> str:
    """A name that MLflow takes for a metric or param, as like the given one as can be."""
    safe = re.sub(r"[^\w\-. :/]", "_", name.replace("=", ":").replace(",", " "), flags=re.ASCII)
    safe = "/".join(part if part.strip(".") else "_" for part in safe.split("/"))  # as `..` in a path
    return shortened(safe)


def shortened(text: str, limit: int = MAX_NAME) -> str:
    """The text with its middle left out where it is too long. Different texts stay different."""
    if len(text) <= limit:
        return text
    mark = f"..{hashlib.sha256(text.encode()).hexdigest()[:8]}.."
    head = (limit - len(mark)) // 2
    return text[:head] + mark + text[len(text) - (limit - len(mark) - head) :]


class Refused(Exception):
    """The store works, but never takes this."""


class MlflowRuns:
    """The runs of one experiment in an MLflow store.

    `answered` is called after each call that the store has answered, `failing` with the reason after each
    that has failed, `note` with each text about something that was left out. A store that fails is tried
    again, with longer and longer waits; after `patience_s` seconds the last error is raised (None: never).
    """

    def __init__(
        self,
        uri: str,
        answered: Callable[[], None],
        failing: Callable[[str], None],
        note: Callable[[str], None],
        patience_s: float | None = None,
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # errors are logged here
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # calls are tried again here
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow.tracking import MlflowClient

        self._uri, self._patience_s = uri, patience_s
        self._answered, self._failing, self._note = answered, failing, note
        self._probe: Callable[[], object] | None = None  # a write that a store in order takes
        self._call(make_sqlite_store, uri)
        self._client: MlflowClient = self._call(MlflowClient, tracking_uri=uri)

    # Experiment

    def open_experiment(self, name: str) -> str:
        """Find, restore or create the experiment. Returns its id."""
        experiment = self._call(self._client.get_experiment_by_name, name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            self._call(self._client.restore_experiment, experiment.experiment_id)
        # By default the artifacts of an sqlite store go to ./mlruns, and `mlflow ui` without options would
        # read that folder as its store.
        is_file = self._uri.startswith("sqlite")
        folder = Path(self._uri.removeprefix("sqlite:///")).parent / "mlartifacts"
        experiment_id: str = (
            experiment.experiment_id
            if experiment
            else self._call(
                self._client.create_experiment, name, artifact_location=str(folder) if is_file else None
            )
        )
        self._probe = lambda: self._client.set_experiment_tag(
            experiment_id, "mlflow.experimentKind", "custom_model_development"
        )
        self._call(self._probe)
        return experiment_id

    def share_view(self, experiment_id: str, key: str, view: Mapping[str, Any]) -> None:
        """Store a view under `key`, as MLflow's UI does for its shared views."""
        set_tag = self._client.set_experiment_tag
        self._unless_refused("a view", set_tag, experiment_id, f"{VIEW_TAG}{key}", json.dumps(view))

    # Runs

    def find(self, experiment_id: str, sweep: str) -> list[Run]:
        """All runs with this tag `sweep_id`, the parent run too."""
        return self._call(self._search, experiment_id, sweep)

    def _search(self, experiment_id: str, sweep: str) -> list[Run]:
        found: list[Run] = []
        page = None
        while True:
            runs = self._client.search_runs(
                [experiment_id], f"tags.sweep_id = '{sweep}'", max_results=1000, page_token=page
            )
            found += runs
            page = runs.token
            if not page:
                return found

    def create(self, experiment_id: str, tags: Mapping[str, str], start_time: int | None = None) -> str:
        """A new run, which is RUNNING. Returns its id. Raises Refused.

        A server may make the run and answer too late: before the run is made again, it is searched for.
        """
        tags = {name: shortened(value, MAX_VALUE) for name, value in tags.items()}
        tags["mlflow.runName"] = shortened(tags["mlflow.runName"])
        has_failed = False

        def make() -> str:
            nonlocal has_failed
            if has_failed:
                for run in self._search(experiment_id, tags["sweep_id"]):
                    if run.data.tags.get("trial_id") == tags.get("trial_id"):
                        return str(run.info.run_id)
            has_failed = True  # unless it returns
            return str(self._client.create_run(experiment_id, start_time=start_time, tags=tags).info.run_id)

        return self._call(make)

    def remove_doubles(self, experiment_id: str, sweep: str, known: Collection[str]) -> None:
        """Delete the runs of a sweep that a server made after the same run had been made again. They are
        RUNNING, empty, and not `known`."""
        for run in self.find(experiment_id, sweep):
            is_empty = run.info.status == "RUNNING" and not run.data.metrics
            if is_empty and run.info.run_id not in known:
                self._unless_refused("a deletion", self._client.delete_run, run.info.run_id)

    def data_of(self, run_id: str) -> RunData:
        """The run's params, tags and last metrics."""
        return self._call(self._client.get_run, run_id).data

    def points_of(self, run_id: str) -> dict[int, dict[str, float]]:
        """Each metric's last value at each step."""
        found: dict[int, dict[str, float]] = {}
        for name in self.data_of(run_id).metrics:
            history = self._call(self._client.get_metric_history, run_id, name)
            for point in sorted(history, key=lambda point: point.timestamp):
                found.setdefault(point.step, {})[name] = point.value
        return found

    def log(
        self,
        run_id: str,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write to a run. A metric is (name, value, milliseconds since 1970, step). Names are safe ones."""
        from mlflow.entities import Metric, Param, RunTag

        rows = [
            Metric(name, value, time_ms, step) for name, value, time_ms, step in metrics if step <= MAX_STEP
        ]
        if len(rows) < len(metrics):
            self._note("a step of 2**63 or more is not in MLflow, which has no such number")
        left: dict[str, list[Any]] = {
            "metrics": rows,
            "params": [Param(name, value) for name, value in (params or {}).items()],
            "tags": [
                RunTag(shortened(name), shortened(value, MAX_VALUE)) for name, value in (tags or {}).items()
            ],
        }
        while any(left.values()):
            batch = {
                "metrics": left["metrics"][
                    : MAX_METRICS - 2 * MAX_PARAMS
                ],  # all three are at most MAX_METRICS
                "params": left["params"][:MAX_PARAMS],
                "tags": left["tags"][:MAX_PARAMS],
            }
            left = {kind: left[kind][len(batch[kind]) :] for kind in left}
            self._log_batch(run_id, batch)

    def _log_batch(self, run_id: str, batch: Mapping[str, Sequence[Any]]) -> None:
        """Write a batch. If the store refuses it, halve it until only what is refused is left out."""
        try:
            self._call(self._client.log_batch, run_id, **batch)
        except Refused as error:
            entries = [(kind, entry) for kind in batch for entry in batch[kind]]
            if len(entries) == 1:
                [(kind, entry)] = entries
                self._note(
                    f"{kind[:-1]} {shortened(entry.key, 60)} is not in MLflow, which refuses it: {error}"
                )
                return
            middle = len(entries) // 2
            for half in (entries[:middle], entries[middle:]):
                self._log_batch(run_id, {kind: [entry for k, entry in half if k == kind] for kind in batch})

    def set_status(self, run_id: str, status: str, end_time: int | None = None) -> None:
        """Set MLflow's status of a run: RUNNING, or the one it ended with; `end_time` is in milliseconds."""
        if status == "RUNNING":
            self._unless_refused("a status", self._client.update_run, run_id, status=status)
        else:
            self._unless_refused("a status", self._client.set_terminated, run_id, status, end_time)

    def log_space(self, run_id: str, space: dict[str, Any]) -> None:
        self._unless_refused(SPACE, self._client.log_dict, run_id, space, SPACE)

    def attach(self, run_id: str, folder: Path) -> None:
        """Attach the report, its figures and tables to a run, if the sweep's `folder` has them. Each file is
        a call, as the end of a launch waits as long as calls are answered."""
        found = [path for name in REPORT for path in (folder / name, *sorted((folder / name).rglob("*")))]
        for path in filter(Path.is_file, found):
            file = path.relative_to(folder)
            inside = None if file.parent == Path() else file.parent.as_posix()
            self._unless_refused(str(file), self._client.log_artifact, run_id, str(path), inside)

    # Calls

    def _unless_refused(
        self, what: str, function: Callable[..., object], *arguments: object, **named: object
    ) -> None:
        try:
            self._call(function, *arguments, **named)
        except Refused as error:
            self._note(f"{what} is not in MLflow, which refuses it: {error}")

    def _call(self, function: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
        """The store's answer. Raises Refused if the store never takes this call: it fails again right after
        the store has taken another write. Before that write the store may have been down."""
        wait, failures, began = FIRST_WAIT_S, 0, time.monotonic()
        works = False
        while True:
            try:
                answer = function(*arguments, **named)
            except Exception as error:
                reason, code = self._reason(error), getattr(error, "error_code", "")
                failures += 1
                may_be_refused = failures > TRIES and code != NEVER_REFUSED
                if code in REFUSED_AT_ONCE or (may_be_refused and works):
                    raise Refused(reason) from error
                works = may_be_refused and self._works()
                if works:
                    continue
                self._failing(reason)
                logger.warning("MLflow: %s; trying again", reason)
                if self._patience_s is not None and time.monotonic() - began > self._patience_s:
                    raise
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)
            else:
                self._answered()
                return answer

    def _works(self) -> bool:
        """Whether the store takes a write that is in order, so that a failure after it is due to what was
        sent."""
        if self._probe is None:
            return False
        try:
            self._probe()
        except Exception:
            return False
        return True

    def _reason(self, error: Exception) -> str:
        lines = without_secret(str(error), self._uri).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:300]}"


def make_sqlite_store(uri: str) -> None:
    """Make the file of an sqlite store that does not exist yet.

    MLflow does so in steps, 9 to 25 s long, and cannot go on from the middle. So the file is made under
    another name: a process that is killed meanwhile leaves no broken store, and of two sweeps that begin
    together one makes it.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or "?" in uri or path.exists():
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        MlflowClient(tracking_uri=f"sqlite:///{_unfinished(path)}").search_experiments(max_results=1)
        with suppress(FileExistsError):
            os.link(_unfinished(path), path)
    finally:
        remove_unfinished(uri)


def remove_unfinished(uri: str) -> None:
    """Remove the file of an sqlite store that this process has not finished."""
    if uri.startswith("sqlite:///"):
        with suppress(OSError):
            _unfinished(Path(uri.removeprefix("sqlite:///"))).unlink()


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")
