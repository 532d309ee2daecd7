"""Read a sweep's results from MLflow, where its folder is not at hand."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.sweep import AnalysisError, Sweep, read_space, sweep_of

_PARENT = "mlflow.parentRunId"
_DOMAIN = re.compile(r"\.(?:values|levels|when|uniform|loguniform|int|logint|choice)(?:\.|$)")


def load_mlflow(experiment_name: str, tracking_uri: str = "sqlite:///mlflow.db") -> Sweep:
    """The sweep in MLflow experiment `experiment_name`; the newest if there are several.

    The space is read from the parent run's artifact `sweep.yaml`, or from its params if it has none. Params
    are strings, and are parsed to numbers, booleans and lists. `decisions` is empty, because only the journal
    has them. Raises AnalysisError if there is no such experiment, or no sweep in it.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None:
        names = ", ".join(sorted(found.name for found in client.search_experiments())) or "none"
        raise AnalysisError(f"{tracking_uri} has no experiment {experiment_name!r}; it has: {names}")
    runs = _all_runs(client, experiment.experiment_id)
    parents = [run for run in runs if run.data.tags.get("role") == "sweep"]
    newest = max(parents, key=lambda run: run.info.start_time, default=None)
    children = [run for run in runs if newest and run.data.tags.get(_PARENT) == newest.info.run_id]
    if newest is None or not children:
        raise AnalysisError(
            f"experiment {experiment_name!r} at {tracking_uri} holds no sweep: it has {len(runs)} runs, "
            f"{len(parents)} tagged role=sweep, {len(children)} of them children of the newest one"
        )
    space = _space_of_run(client, newest)
    trials = pd.DataFrame([_trial_of_run(run) for run in children])
    history = pd.concat([_history_of_run(client, run) for run in children], ignore_index=True)
    trials = trials.merge(_best_of(history, space["objective"]), on="trial_id", how="left")
    return sweep_of(trials, history, pd.DataFrame(), space, None)


def _best_of(history: pd.DataFrame, objective: Mapping[str, Any]) -> pd.DataFrame:
    """best/METRIC and best_step of each trial, as in trials.parquet: of equal values, the first."""
    metric = str(objective["metric"])
    if metric not in history:
        return pd.DataFrame({"trial_id": history["trial_id"].unique()})
    reported = history.dropna(subset=[metric]).sort_values("step", kind="stable")
    lowest_first = objective.get("mode", "max") == "min"
    best = reported.sort_values(metric, ascending=lowest_first, kind="stable").drop_duplicates("trial_id")
    return best[["trial_id", metric, "step"]].rename(columns={metric: f"best/{metric}", "step": "best_step"})


def _space_of_run(client: Any, parent: Any) -> dict[str, Any]:
    if any(artifact.path == "sweep.yaml" for artifact in client.list_artifacts(parent.info.run_id)):
        with tempfile.TemporaryDirectory() as scratch:
            return read_space(Path(client.download_artifacts(parent.info.run_id, "sweep.yaml", scratch)))
    space: dict[str, Any] = {
        key: {} for key in ("ablate", "tune", "objective", "scheduler", "search", "evidence")
    }
    for key, text in parent.data.params.items():
        top, _, rest = key.partition(".")
        if top in ("ablate", "tune"):  # "ablate.model.mixer.d_state.values" -> the factor alone
            space[top][_DOMAIN.split(rest)[0]] = parse_param(text)
        elif rest and top in space:
            space[top][rest] = parse_param(text)
        elif not rest:
            space[top] = parse_param(text)
    if "metric" not in space["objective"]:
        raise AnalysisError(
            f"MLflow run {parent.info.run_id} has no sweep.yaml and no param objective.metric"
        )
    return space


def _all_runs(client: Any, experiment_id: str) -> list[Any]:
    runs, token = [], None
    while True:
        page = client.search_runs([experiment_id], page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _trial_of_run(run: Any) -> dict[str, Any]:
    tags = run.data.tags
    fixed = {key: tags.get(key, "") for key in ("trial_id", "arm", "phase", "status", "reason")}
    fixed |= {key: parse_param(tags[key]) for key in ("draw", "seed") if key in tags}
    params = {key: parse_param(value) for key, value in run.data.params.items()}
    fixed["audited"] = tags.get("audited", "")
    return {**params, **run.data.metrics, **fixed, "mlflow_run_id": run.info.run_id}


def _history_of_run(client: Any, run: Any) -> pd.DataFrame:
    series = {
        name: {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
    }
    table = pd.DataFrame(series).sort_index().rename_axis("step").reset_index(drop="step" in series)
    return table.assign(trial_id=run.data.tags.get("trial_id", run.info.run_id))


def parse_param(text: str) -> Any:
    """The value of an MLflow param, which is always text: `"1e-4"` -> 0.0001, `"mlp"` -> "mlp"."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "null": None, "nan": float("nan")}.get(text, text)
