"""Real learning curves from parquet files: each task that they hold, as arrays.

A file has a row a report, with the columns `dataset, task, arm, config` (the tuning point, or the version of
an arm), `seed, step, steps` (planned), `value, higher_is_better`; more are ignored. Beside NAME.parquet there
may be NAME_runs.csv.gz with `task` and `reached`: whether a run stopped because it had reached a target.

A run that ended early holds its last value to the planned end; what lies beyond the planned end is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("dataset", "task", "arm", "config", "seed", "step", "steps", "value", "higher_is_better")
REPORTS = 20  # of a run, evenly spaced up to the planned end
OUTRUN = 1.1  # times the planned steps: a run that goes further does not keep to its plan
SOURCES = {
    "algoperf": "mlcommons/submissions_algorithms @12c8e4e, Apache-2.0",
    "nanogpt": "KellerJordan/modded-nanogpt @f411b3d, MIT",
}


@dataclass(frozen=True)
class Task:
    """A world of its own: arms that were trained for the same number of steps.

    `curves` is [arm, config, run, report], higher is better, NaN from where a run has diverged. `known` is
    [arm, config, run]: whether the data has that run; the runs that it has come first.
    """

    dataset: str
    name: str
    arms: tuple[str, ...]
    curves: np.ndarray
    known: np.ndarray
    reached: float  # share of runs that stopped at a target; 0 where the data does not say
    outrun: float  # share of runs that went more than OUTRUN times as far as planned

    @property
    def tuned(self) -> bool:
        return self.curves.shape[1] > 1

    @property
    def finals(self) -> np.ndarray:
        """[arm, config, run] at the planned end. A diverged run has the task's worst final value; NaN where
        there is no run."""
        last = self.curves[..., -1]
        return np.where(self.known, np.where(np.isnan(last), np.nanmin(last), last), np.nan)

    def correlation(self, report: int) -> float | None:
        """Spearman's, over all runs, of the value at this report (from 1) with the last one; None where all
        runs have the same value there."""
        early, last = self.curves[..., report - 1][self.known], self.curves[..., -1][self.known]
        if np.nanmin(early) == np.nanmax(early):
            return None
        return round(float(pd.Series(early).corr(pd.Series(last), method="spearman")), 3)


def read_tasks(folder: Path) -> list[Task]:
    """All tasks in the folder's parquet files. Raises ValueError where there is no such file, or a file lacks
    a column."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise ValueError(f"{folder}: holds no .parquet file: name a folder of learning curves")
    return [task for file in files for task in _tasks_of(file)]


def _tasks_of(file: Path) -> list[Task]:
    table = pd.read_parquet(file)
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{file}: lacks the column {missing[0]}: needed are {', '.join(COLUMNS)}")
    table = table[list(COLUMNS)].astype(dict.fromkeys(COLUMNS[:4], str))
    reached = _reached(file)
    lengths = table.groupby("task")["steps"].nunique()
    tasks = []
    for (dataset, task, steps), rows in table.groupby(["dataset", "task", "steps"]):
        name = task if lengths[task] == 1 else f"{task} {steps}"
        tasks.append(_task(dataset, name, int(steps), rows, reached.get(task, 0.0)))
    return tasks


def _reached(file: Path) -> dict[str, float]:
    beside = file.with_name(f"{file.stem}_runs.csv.gz")
    if not beside.exists():
        return {}
    shares = pd.read_csv(beside).groupby("task")["reached"].mean()
    return {str(task): float(share) for task, share in shares.items()}


def _task(dataset: str, name: str, steps: int, rows: pd.DataFrame, reached: float) -> Task:
    sign = 1.0 if rows["higher_is_better"].iloc[0] else -1.0
    runs: dict[str, dict[str, list[np.ndarray]]] = {}
    for (arm, config, _), run in rows.groupby(["arm", "config", "seed"]):
        curve = sign * resampled(run["step"].to_numpy(), run["value"].to_numpy(dtype=float), steps)
        runs.setdefault(arm, {}).setdefault(config, []).append(curve)
    if np.median([len(configs) for configs in runs.values()]) == 1:  # nothing tuned: a version is an arm
        runs = {
            arm if len(configs) == 1 else f"{arm}, {config}": {config: curves}
            for arm, configs in runs.items()
            for config, curves in configs.items()
        }
    packed = [list(configs.values()) for configs in runs.values()]
    shape = (len(packed), max(map(len, packed)), max(len(curves) for arm in packed for curves in arm))
    curves, known = np.full((*shape, REPORTS), np.nan), np.zeros(shape, dtype=bool)
    for i, arm in enumerate(packed):
        for j, found in enumerate(arm):
            curves[i, j, : len(found)], known[i, j, : len(found)] = found, True
    outrun = (rows.groupby(["arm", "config", "seed"])["step"].max() > OUTRUN * steps).mean()
    return Task(dataset, name, tuple(runs), curves, known, reached, float(outrun))


def resampled(step: np.ndarray, value: np.ndarray, steps: int) -> np.ndarray:
    """The last value reported by each of REPORTS even times up to `steps`; the first one before that.

    NaN from the first value on that is not finite.
    """
    order = np.argsort(step, kind="stable")
    step, value = step[order], np.where(np.isfinite(value[order]), value[order], np.nan)
    times = steps * np.arange(1, REPORTS + 1) / REPORTS
    at = np.maximum(np.searchsorted(step, times, side="right") - 1, 0)
    broken = np.logical_or.accumulate(np.isnan(value))
    return np.where(broken[at], np.nan, value[at])
