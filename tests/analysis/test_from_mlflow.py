"""Results that are read from MLflow instead of the sweep's folder."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from analysis.compare.ranking import rank_arms
from analysis.from_mlflow import load_mlflow, parse_param
from analysis.sweep import AnalysisError, load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "demo", {"mlp": Fake(0.9), "mamba": Fake(0.5, stop=0.25)})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("3", 3), ("True", True), ("false", False), ("None", None), ("mlp", "mlp"),
     ("[1, 2]", [1, 2]), ("", "")],
)  # fmt: skip
def test_params_get_their_types_back(text: str, value: object) -> None:
    assert parse_param(text) == value and type(parse_param(text)) is type(value)


@pytest.mark.parametrize("artifact", [True, False])
def test_mlflow_gives_the_same_ranking_as_the_folder(folder: Path, tmp_path: Path, artifact: bool) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    _log_to_mlflow(folder, uri, tmp_path, artifact)
    ours, theirs = rank_arms(load_sweep(folder)), rank_arms(load_mlflow("demo", uri))
    assert list(theirs["arm"]) == list(ours["arm"])
    for column in ("mean", "low", "high", "test_mean", "n_pruned"):
        assert theirs[column].to_numpy() == pytest.approx(ours[column].to_numpy(), nan_ok=True)
    sweep = load_mlflow("demo", uri)
    assert len(sweep.history) == len(load_sweep(folder).history)
    assert set(sweep.trials["model.mixer.kind"]) == {"mlp", "mamba"}
    assert set(sweep.trials["data.task"]) == {"sudoku"} and sweep.trials["optim.betas"][0] == [0.9, 0.95]
    best = [each.trials.set_index("trial_id")[f"best/{OBJECTIVE}"] for each in (load_sweep(folder), sweep)]
    pd.testing.assert_series_equal(best[0].sort_index(), best[1].sort_index())
    assert sweep.trials["best_step"].notna().all()
    with pytest.raises(AnalysisError, match=r"no experiment 'nope'; it has: .*demo"):
        load_mlflow("nope", uri)


def _log_to_mlflow(folder: Path, uri: str, tmp_path: Path, artifact: bool) -> None:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client, sweep = MlflowClient(uri), load_sweep(folder)
    experiment = client.create_experiment("demo", artifact_location=(tmp_path / "artifacts").as_uri())
    parent = client.create_run(experiment, tags={"role": "sweep"}).info.run_id
    if artifact:
        client.log_artifact(parent, str(folder / "sweep.yaml"))
    else:
        given = {"name": "demo", "objective.metric": OBJECTIVE, "objective.mode": "max",
                 "objective.unit": "share",
                 "ablate.model.mixer.kind": "['mlp', 'mamba']", "seeds": "[0, 1]"}  # fmt: skip
        client.log_batch(parent, params=[Param(key, value) for key, value in given.items()])
    for trial in sweep.trials.to_dict("records"):
        tags = {key: str(trial[key]) for key in ("trial_id", "arm", "seed", "draw", "phase", "status")}
        run = client.create_run(experiment, tags={**tags, "role": "trial", "mlflow.parentRunId": parent})
        client.log_param(run.info.run_id, "model.mixer.kind", trial["model.mixer.kind"])
        client.log_param(run.info.run_id, "data.task", "sudoku")
        client.log_param(run.info.run_id, "optim.betas", "[0.9, 0.95]")
        rows = sweep.history[sweep.history["trial_id"] == trial["trial_id"]].to_dict("records")
        metrics = [
            Metric(key, value, int(row["step"]), int(row["step"]))
            for row in rows
            for key, value in row.items()
            if key not in ("trial_id", "step") and not math.isnan(value)
        ]
        client.log_batch(run.info.run_id, metrics=metrics)
