"""Writes trials.parquet, history.parquet and configs.parquet from a sweep's journal and sweep.yaml."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.record.configs import configs_frame
from sweeps.record.file_names import JOURNAL, SPACE, TABLES
from sweeps.record.files import atomic_write
from sweeps.record.mlflow_file import MlflowFile
from sweeps.record.state import SweepState, TrialState, read_state
from sweeps.space.names import HISTORY_COLUMNS, TRIAL_COLUMNS


def write_results(folder: Path, state: SweepState, space: dict[str, Any], is_running: bool = False) -> None:
    """Write the tables into `folder`, which holds the journal. `space` is the content of sweep.yaml;
    `is_running`: a launch works on the sweep."""
    trials = trials_frame(state, space, MlflowFile.read(folder).runs, is_running)
    configs = configs_frame(state.trials, folder / JOURNAL)
    for name, frame in zip(TABLES, (trials, history_frame(state), configs), strict=True):
        with atomic_write(folder / name) as staging:
            frame.to_parquet(staging)


def rebuild(folder: Path, is_running: bool = False) -> None:
    """Write the tables from the sweep's files. Raises FileNotFoundError if the folder holds no sweep."""
    from trm.settings.yaml import load_yaml

    write_results(folder, read_state(folder / JOURNAL), load_yaml(folder / SPACE), is_running)


def trials_frame(
    state: SweepState,
    space: dict[str, Any],
    runs: Mapping[str, str] | None = None,
    is_running: bool = False,
) -> pd.DataFrame:
    """One row per trial; docs and README list the columns. What the trainer does not report is blank.

    `runs` has the MLflow run of each trial; older journals have it themselves. Where no launch works on the
    sweep, a trial that runs by the journal was interrupted by a launch's death.
    """
    runs = runs or {}
    arms, objective = space["resolved"]["arms"], space["objective"]
    rows = [
        _trial_row(trial, arms[trial.arm], objective)
        | {
            "phase": state.phase_of(trial),
            "status": "interrupted" if trial.status == "running" and not is_running else trial.status,
            "mlflow_run_id": runs.get(trial.trial_id, trial.mlflow_run_id),
        }
        for trial in state.trials.values()
    ]
    frame = pd.DataFrame(rows)
    if (space.get("scheduler") or {}).get("audit"):
        frame["audited"] = [state.is_audited(trial) for trial in state.trials.values()]
    for name in [name for name in frame.columns if pd.api.types.is_object_dtype(frame[name])]:
        frame[name] = _of_one_type(frame[name])
    return frame.reindex(
        columns=[*TRIAL_COLUMNS, *(name for name in frame.columns if name not in TRIAL_COLUMNS)]
    )


def _trial_row(trial: TrialState, arm: dict[str, Any], objective: dict[str, str]) -> dict[str, Any]:
    last = {name: value for name, value in trial.last.items() if name != "step"}
    best = trial.best(objective["metric"], objective["mode"])
    match = arm.get("match")
    return {
        **arm["levels"],
        **({match["key"]: match["value"]} if match else {}),
        **trial.values,
        "wall_s": trial.seconds or math.nan,  # by the journal, where the trainer does not say
        **last,
        f"best/{objective['metric']}": best[0] if best else math.nan,
        "best_step": best[1] if best else None,
        "trial_id": trial.trial_id,
        "arm": trial.arm,
        "draw": trial.draw,
        "seed": trial.seed,
        "reason": trial.reason,
        "num_params": arm["num_params"],
        "flops_per_sample": arm["flops_per_sample"],
    }


def _of_one_type(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column with one type, as Parquet requires: mixed levels such as 8 and "auto", and lists, as
    text."""
    types = {type(value) for value in column.dropna()}
    if types <= {str} or types <= {bool} or types <= {int, float}:
        return column
    return column.map(lambda value: value if isinstance(value, str) else str(value), na_action="ignore")


def history_frame(state: SweepState) -> pd.DataFrame:
    """One row per report, in the order of trials and steps."""
    rows = [
        {"trial_id": trial.trial_id, **metrics, "step": step}
        for trial in state.trials.values()
        for step, metrics in sorted(trial.reports.items())
    ]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*HISTORY_COLUMNS, *(c for c in frame.columns if c not in HISTORY_COLUMNS)])
