"""One sweep's runs in an MLflow store: creates, finds, writes and closes them, and links to MLflow's UI.

`observe.mlflow_writer` calls it for each event of the journal; it calls MLflow's client only.
"""

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

RUN_STATUS = {  # our status -> MLflow's
    "completed": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
STORES = ("sqlite", "mysql", "postgresql", "mssql", "http", "https", "databricks")
REPORT = ("report.html", "summary.csv", "report")  # files and folders attached to the parent run
MAX_METRICS, MAX_PARAMS = 1000, 100  # in one call of log_batch


def absolute_uri(uri: str) -> str:
    """The URI with a relative sqlite path or folder made absolute."""
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return prefix + str(Path(uri.removeprefix(prefix)).resolve())
    return uri if "://" in uri else str(Path(uri).resolve())


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


def runs_link(uri: str, experiment_id: str, space: Mapping[str, Any]) -> str:
    """The page of MLflow's UI that shows charts of a sweep's trials, sorted by the objective.

    The plain link to the experiment shows only the parent run, collapsed: MLflow expands nested runs only if
    they are sorted by something other than their creation time.
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
    """The runs of one sweep in an MLflow store. Calling a method again with the same arguments changes
    nothing.

    `space` is the content of sweep.yaml. With `reopen` an existing parent run becomes RUNNING again.
    """

    def __init__(self, uri: str, space: dict[str, Any], reopen: bool = True) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow.tracking import MlflowClient

        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._space = space
        self._sweep_id = sweep_id(space)
        self.experiment_id = self._experiment(uri, space["name"])
        self.run_ids: dict[str, str] = {}  # trial_id -> run id
        parent = self._find_runs()
        if not parent:
            parent = self._create_parent()
        elif reopen:
            self._client.update_run(parent, status="RUNNING")
            self._client.log_dict(parent, self._space, "sweep.yaml")  # again, as the sweep may be extended
        self._parent = parent

    def _experiment(self, uri: str, name: str) -> str:
        """Find, restore or create the experiment. Returns its id."""
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        # By default the artifacts of an sqlite store go to ./mlruns, and `mlflow ui` without options would
        # read that folder as its store.
        artifacts = (
            str(Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts")
            if uri.startswith("sqlite")
            else None
        )
        experiment_id: str = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(name, artifact_location=artifacts)
        )
        self._client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
        return experiment_id

    def _find_runs(self) -> str:
        """Fill `run_ids` with the existing runs of this sweep. Returns the id of the parent run, or ''."""
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
                return parent

    def _create_parent(self) -> str:
        name = self._space["name"]
        tags = {
            "mlflow.runName": f"{name} (sweep)",
            "role": "sweep",
            "sweep": name,
            "sweep_id": self._sweep_id,
        }
        run_id: str = self._client.create_run(self.experiment_id, tags=tags).info.run_id
        flat = flatten({key: value for key, value in self._space.items() if key != "resolved"})
        self._log_params(run_id, flat)
        self._client.log_dict(run_id, self._space, "sweep.yaml")
        return run_id

    def open_trial(self, trial: Event, start: Event) -> str:
        """Create or reopen the trial's run, and write its params. Returns the run id. `trial` and `start` are
        the journal's events of that name."""
        trial_id = trial["trial_id"]
        if trial_id in self.run_ids:
            self._client.update_run(self.run_ids[trial_id], status="RUNNING")
            self._client.set_tag(self.run_ids[trial_id], "status", "running")
        else:
            self.run_ids[trial_id] = self._create_run(trial, start)
        # Always: a crash may have come after the run was created and before its params were written.
        arm = self._space["resolved"]["arms"][trial["arm"]]
        sizes = {name: arm[name] for name in ("num_params", "flops_per_sample") if arm[name] is not None}
        # MLflow's charts can group and colour by a param, but not by a tag.
        labels = {"arm": trial["arm"], "seed": trial["seed"]}
        params = {**arm["levels"], **flatten(start["config"], into_lists=True), **sizes, **labels}
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
        run_id: str = self._client.create_run(
            self.experiment_id, start_time=milliseconds(start), tags=tags
        ).info.run_id
        return run_id

    def logged_steps(self, trial_id: str) -> dict[int, int]:
        """The steps that the trial's run has metrics of, and the time of each in milliseconds."""
        points = self._client.get_metric_history(self.run_ids[trial_id], "samples")
        return {point.step: point.timestamp for point in points}

    def log_reports(self, trial_id: str, reports: Iterable[Event]) -> None:
        """Write the reports' metrics with their step and the journal's time, so that a repeat adds
        nothing."""
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
        """End the trial's run with our `status`; `end_time` is in milliseconds since 1970."""
        run_id = self.run_ids.get(trial_id)
        if run_id is not None:  # a trial that was stopped before its start has no run
            self._client.set_tag(run_id, "status", status)
            if reason:
                self._client.set_tag(run_id, "reason", reason[:5000])
            self._client.set_terminated(run_id, RUN_STATUS[status], end_time)

    def log_decision(self, trial_id: str, decision: Event) -> None:
        """Tag the trial's run with a decision of the scheduler about its draw."""
        run_id = self.run_ids.get(trial_id)
        if run_id is not None:
            self._client.set_tag(run_id, f"rung_{decision['rung']:g}", _decision_text(decision))
            if decision["action"] == "audit":
                self._client.set_tag(run_id, "audited", "true")

    def close(self, status: str) -> None:
        """End the parent run. `status` is how the launch ended: completed, budget or interrupted."""
        self._client.set_terminated(self._parent, "FINISHED" if status == "completed" else "KILLED")

    def attach(self, folder: Path) -> None:
        """Attach the report, its figures and tables to the parent run, if the sweep's `folder` has them."""
        for name in REPORT:
            path = folder / name
            if path.is_dir():
                self._client.log_artifacts(self._parent, str(path), name)
            elif path.exists():
                self._client.log_artifact(self._parent, str(path))

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        stored = self._client.get_run(run_id).data.params
        entries = [Param(name, str(value)) for name, value in params.items() if name not in stored]
        for name, value in params.items():  # MLflow cannot change a param, as when the horizon was extended
            if stored.get(name, str(value)) != str(value):
                self._client.set_tag(run_id, f"now.{name}", str(value))
        for start in range(0, len(entries), MAX_PARAMS):
            self._client.log_batch(run_id, params=entries[start : start + MAX_PARAMS])


def milliseconds(event: Event) -> int:
    return int(event["time"] * 1000)


def _decision_text(decision: Event) -> str:
    tied = f", tied with {decision['tied']}" if decision.get("tied") else ""
    cutoff = "none" if decision["cutoff"] is None else f"{float(decision['cutoff']):.5g}"
    return f"{decision['action']}: value {float(decision['value']):.5g}, cut-off {cutoff}{tied}"
