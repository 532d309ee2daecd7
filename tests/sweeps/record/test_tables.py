"""The tables, of trials whose fields are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.state import SweepState
from sweeps.record.tables import write_results
from sweeps.space.names import REPORTED, RESERVED, name_problem

OBJECTIVE = {"metric": "acc", "mode": "max"}


def tables(folder: Path, levels: list[Any], values: list[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    state, arms = SweepState(), {}
    for index, (level, value) in enumerate(zip(levels, values, strict=True)):
        arms[f"arm{index}"] = {"levels": {"width": level}, "num_params": None, "flops_per_sample": None}
        trial = {"trial_id": f"t{index}", "arm": f"arm{index}", "draw": 0, "values": {"lr": value}, "seed": 1}
        state.apply({"event": "trial", "phase": "search", **trial})
        state.apply(
            {"event": "report", "trial_id": f"t{index}", "time": 0, "step": 1, "samples": 5, "acc": 0.5}
        )
    write_results(folder, state, {"resolved": {"arms": arms}, "objective": OBJECTIVE})
    return pd.read_parquet(folder / "trials.parquet"), pd.read_parquet(folder / "history.parquet")


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        (["auto", 8], ["auto", "8"]),
        ([True, 8], ["True", "8"]),
        ([[1, 2], [3]], ["[1, 2]", "[3]"]),
        ([1, 2.5], [1, 2.5]),
        ([True, False], [True, False]),
        (["a", None], ["a", None]),
    ],
)
def test_levels_and_drawn_values_of_several_types_make_one_column(
    tmp_path: Path, levels: list[Any], shown: list[Any]
) -> None:
    trials, _ = tables(tmp_path, levels, levels)
    for column in ("width", "lr"):
        assert [None if pd.isna(value) else value for value in trials[column]] == shown


def test_best_is_the_first_of_equals_and_blank_where_nothing_is_finite(tmp_path: Path) -> None:
    state = SweepState()
    arms = {"a": {"levels": {}, "num_params": 7, "flops_per_sample": 3}}
    for name, values in {"t0": [0.1, 0.9, 0.9], "t1": [math.nan]}.items():
        trial = {"trial_id": name, "arm": "a", "draw": 0, "values": {}, "seed": 1, "phase": "evidence"}
        state.apply({"event": "trial", **trial})
        for step, value in enumerate(values, start=1):
            event = {
                "event": "report",
                "trial_id": name,
                "time": 0,
                "step": step,
                "samples": step,
                "acc": value,
            }
            state.apply(event)
    write_results(tmp_path, state, {"resolved": {"arms": arms}, "objective": OBJECTIVE})
    trials = pd.read_parquet(tmp_path / "trials.parquet").set_index("trial_id")
    assert (trials.loc["t0", "best/acc"], trials.loc["t0", "best_step"]) == (0.9, 2)
    assert math.isnan(trials.loc["t1", "best/acc"]) and math.isnan(trials.loc["t1", "best_step"])


def test_wall_s_is_the_journals_where_the_trainer_says_none(tmp_path: Path) -> None:
    state, arms = SweepState(), {"a": {"levels": {}, "num_params": 7, "flops_per_sample": 3}}
    for name in ("silent", "says", "waits"):
        trial = {"trial_id": name, "arm": "a", "draw": 0, "values": {}, "seed": 1, "phase": "evidence"}
        state.apply({"event": "trial", **trial})

    def tell(event: str, time: float, trial_id: str = "silent", **fields: object) -> None:
        state.apply({"event": event, "time": time, "trial_id": trial_id, **fields})

    tell("start", 100)
    tell("report", 130, step=1, acc=0.1)  # then it is killed, and resumed a day later
    state.apply({"event": "launch", "time": 90_000, "hash": "x"})
    tell("start", 90_010)
    tell("report", 90_020, step=2, acc=0.2)
    tell("retry", 90_025, reason="broke")
    tell("start", 90_100)
    tell("report", 90_140, step=3, acc=0.3)
    tell("end", 90_145, status="completed")
    tell("start", 90_100, "says")
    tell("report", 90_140, "says", step=1, acc=0.3, wall_s=7.0)
    tell("end", 90_145, "says", status="completed")
    write_results(tmp_path, state, {"resolved": {"arms": arms}, "objective": OBJECTIVE})
    wall_s = pd.read_parquet(tmp_path / "trials.parquet").set_index("trial_id").wall_s
    assert (wall_s["silent"], wall_s["says"]) == (30 + 15 + 45, 7.0)
    assert math.isnan(wall_s["waits"])


def test_the_mlflow_run_is_that_of_mlflow_json_or_of_an_older_journal(tmp_path: Path) -> None:
    state, arms = SweepState(), {"a": {"levels": {}, "num_params": 7, "flops_per_sample": 3}}
    for name in ("old", "new"):
        trial = {"trial_id": name, "arm": "a", "draw": 0, "values": {}, "seed": 1, "phase": "evidence"}
        state.apply({"event": "trial", **trial})
        state.apply({"event": "mlflow", "trial_id": name, "run_id": "by the journal"})
    MlflowFile("a store", runs={"new": "by the file"}).write(tmp_path)
    write_results(tmp_path, state, {"resolved": {"arms": arms}, "objective": OBJECTIVE})
    found = pd.read_parquet(tmp_path / "trials.parquet").set_index("trial_id").mlflow_run_id
    assert dict(found) == {"old": "by the journal", "new": "by the file"}


@pytest.mark.parametrize("name", ["event", "time", "trial_id", "status", "best/acc", "best_step"])
def test_names_that_the_tables_keep_are_refused(name: str) -> None:
    assert "column" in name_problem(name, RESERVED)


@pytest.mark.parametrize("name", ["acc@1", "a//b", "/a", "../a", "a/", "", "x" * 251, "tëst"])
def test_names_that_mlflow_refuses_are_refused(name: str) -> None:
    assert "MLflow" in name_problem(name, RESERVED)


@pytest.mark.parametrize("name", ["val/exact_accuracy", "loss", "top-5", "a.b c:d", *sorted(REPORTED)])
def test_other_names_are_taken(name: str) -> None:
    assert name_problem(name, RESERVED) == ""
