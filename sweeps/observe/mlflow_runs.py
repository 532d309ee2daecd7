"""One sweep's runs in an MLflow store, where every call may come again; and where to look at them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sweeps.record.folder import sweep_id
from sweeps.record.journal import Event
from sweeps.record.secrets import without_secret
from sweeps.space.dotted import flatten
from sweeps.space.errors import SpecError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUN_STATUS = {  # of MLflow, for ours
    "completed": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
STORES = ("sqlite", "mysql", "postgresql", "mssql", "http", "https", "databricks")
REPORT = ("report.html", "summary.csv", "report")  # what of a sweep's folder its parent run has
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
            f"--tracking-uri {without_secret(uri)}: {why}: give one of {', '.join(STORES)}, such as "
            f"sqlite:///mlflow.db or http://127.0.0.1:5000"
        )


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


class MlflowRuns:
    """The runs of one sweep in an MLflow store. Every method may be called again with the same arguments."""

    def __init__(self, uri: str, space: dict[str, Any], reopen: bool = True) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow.tracking import MlflowClient

        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._space = space
        self._sweep_id = sweep_id(space)
        self.experiment_id = self._experiment(uri, space["name"])
        self.run_ids: dict[str, str] = {}
        self._parent = self._adopt_runs(reopen)

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

    def _adopt_runs(self, reopen: bool) -> str:
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
        if parent and not reopen:
            return parent
        if parent:
            self._client.update_run(parent, status="RUNNING")
            self._client.log_dict(parent, self._space, "sweep.yaml")  # which may have been extended
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
        # `arm` and `seed` are there to group, colour and name the axes of charts by.
        named = {"arm": trial["arm"], "seed": trial["seed"]}
        params = {**arm["levels"], **flatten(start["config"], into_lists=True), **known, **named}
        self._log_params(self.run_ids[trial_id], params)
        if start.get("reused_from"):
            self._client.set_tag(self.run_ids[trial_id], "reused_from", start["reused_from"])
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
        made: str = self._client.create_run(
            self.experiment_id, start_time=milliseconds(start), tags=tags
        ).info.run_id
        return made

    def logged(self, trial_id: str) -> dict[int, int]:
        """The steps that the trial's run has, and the time of each."""
        points = self._client.get_metric_history(self.run_ids[trial_id], "samples")
        return {point.step: point.timestamp for point in points}

    def log_reports(self, trial_id: str, reports: Iterable[Event]) -> None:
        """Metrics with their step, at the time the journal has for them: writing them again adds nothing."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, float(value), milliseconds(report), int(report["step"]))
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
            if decision["action"] == "audit":
                self._client.set_tag(run_id, "audited", "true")

    def close(self, status: str) -> None:
        self._client.set_terminated(self._parent, "FINISHED" if status == "completed" else "KILLED")

    def attach(self, folder: Path) -> None:
        """The report, its figures and tables, as far as `folder` has them, to the parent run."""
        for name in REPORT:
            path = folder / name
            if path.is_dir():
                self._client.log_artifacts(self._parent, str(path), name)
            elif path.exists():
                self._client.log_artifact(self._parent, str(path))

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        there = self._client.get_run(run_id).data.params
        entries = [Param(name, str(value)) for name, value in params.items() if name not in there]
        for name, value in params.items():  # a param cannot be changed, and a longer horizon is one that has
            if there.get(name, str(value)) != str(value):
                self._client.set_tag(run_id, f"now.{name}", str(value))
        for start in range(0, len(entries), MAX_PARAMS):
            self._client.log_batch(run_id, params=entries[start : start + MAX_PARAMS])


def milliseconds(event: Event) -> int:
    return int(event["time"] * 1000)


def _decision_text(decision: Event) -> str:
    tied = f", tied with {decision['tied']}" if decision.get("tied") else ""
    cutoff = "none" if decision["cutoff"] is None else f"{float(decision['cutoff']):.5g}"
    return f"{decision['action']}: value {float(decision['value']):.5g}, cut-off {cutoff}{tied}"
