"""Arms over several tasks: interquartile mean, probability of improvement, performance profiles.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice". A value is a run
on a task, in the same unit on all tasks (a share that is solved needs no scaling). Intervals are 95%
percentiles of a bootstrap stratified by task: each task's seeds are resampled separately, so that they
are about these tasks, not about tasks in general.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare.ranking import seed_table
from analysis.inference.intervals import ALPHA
from analysis.sweep import AnalysisError, Sweep

RESAMPLES = 2_000
Tables = Mapping[str, pd.DataFrame]  # task -> a row per seed, a column per arm
Runs = list[np.ndarray]  # the values of each task's runs


def tables_of(sweeps: Sequence[Sweep], metric: str | None = None) -> dict[str, pd.DataFrame]:
    """The input of the functions below: one table per sweep (task), by name, with the arms that all have.

    The default `metric` is each sweep's test objective. Raises AnalysisError if no arm is in all sweeps, if
    two sweeps have the same name, or if their objectives differ in unit or mode.
    """
    names = [sweep.name for sweep in sweeps]
    shared = [arm for arm in sweeps[0].arms if all(arm in sweep.arms for sweep in sweeps)] if sweeps else []
    if not shared:
        raise AnalysisError(f"no arm is in all of {', '.join(names) or 'no sweeps'}: they cannot be compared")
    if len(set(names)) < len(names):
        raise AnalysisError(f"{', '.join(names)}: a sweep is a task here, and two have the same name")
    metrics = {sweep.name: metric or sweep.test_metric or sweep.metric for sweep in sweeps}
    if len({(sweep.maximise, sweep.unit(metrics[sweep.name])) for sweep in sweeps}) > 1:
        given = ", ".join(f"{metric} of {name}" for name, metric in metrics.items())
        raise AnalysisError(
            f"{given} differ in objective.unit or objective.mode: give sweeps in which both are equal, as "
            f"runs are compared over tasks"
        )
    return {sweep.name: seed_table(sweep, metrics[sweep.name])[shared] for sweep in sweeps}


def interquartile_means(tables: Tables, seed: int = 0) -> pd.DataFrame:
    """`arm`, `n` (runs), `iqm`, `low`, `high`: the mean of the middle half of all runs of all tasks.

    All runs have equal weight: a task with more seeds counts more.
    """
    rows = []
    for arm, runs in _by_arm(tables).items():
        low, high = _bootstrap([runs], lambda picked: _iqm(picked[0]), seed)
        rows.append((arm, sum(map(len, runs)), float(_iqm(runs)), float(low), float(high)))
    return pd.DataFrame(rows, columns=["arm", "n", "iqm", "low", "high"])


def probability_of_improvement(
    tables: Tables, baseline: str, seed: int = 0, *, maximise: bool
) -> pd.DataFrame:
    """`arm`, `probability`, `low`, `high`: that a run of the arm beats one of the baseline; ties count half.

    The mean over tasks of the Mann-Whitney statistic; higher values are better if `maximise`, else lower.
    """
    sign = 1.0 if maximise else -1.0
    by_arm = _by_arm({task: sign * table for task, table in tables.items()})
    rows = []
    for arm, runs in by_arm.items():
        if arm != baseline:
            both = [runs, by_arm[baseline]]
            low, high = _bootstrap(both, lambda picked: _improvement(*picked), seed)
            rows.append((arm, float(_improvement(*both)), float(low), float(high)))
    return pd.DataFrame(rows, columns=["arm", "probability", "low", "high"])


def performance_profiles(
    tables: Tables, thresholds: Sequence[float], seed: int = 0, *, maximise: bool
) -> pd.DataFrame:
    """`arm`, `threshold`, `share`, `low`, `high`: the share of runs that are better than each threshold, over
    all tasks: above it if `maximise`, else below it."""
    sign, parts = 1.0 if maximise else -1.0, []
    limits = [sign * threshold for threshold in thresholds]
    for arm, runs in _by_arm({task: sign * table for task, table in tables.items()}).items():
        share = _profile(runs, limits)
        low, high = _bootstrap([runs], lambda picked: _profile(picked[0], limits), seed)
        columns = {"arm": arm, "threshold": thresholds, "share": share, "low": low, "high": high}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _by_arm(tables: Tables) -> dict[str, Runs]:
    """Raises AnalysisError if an arm has no value on some task."""
    arms = list(next(iter(tables.values())).columns)
    found = {arm: [table[arm].dropna().to_numpy(dtype=float) for table in tables.values()] for arm in arms}
    for arm, runs in found.items():
        for task, values in zip(tables, runs, strict=True):
            if not len(values):
                raise AnalysisError(f"{arm} has no completed trial on {task}: leave one of the two out")
    return found


# The statistics: each of a list of tasks' runs [..., runs], which gives [...].


def _iqm(runs: Runs) -> np.ndarray:
    return np.asarray(stats.trim_mean(np.concatenate(runs, axis=-1), 0.25, axis=-1))


def _improvement(runs: Runs, others: Runs) -> np.ndarray:
    wins = [
        np.mean(np.sign(mine[..., :, None] - other[..., None, :]) + 1, axis=(-2, -1)) / 2
        for mine, other in zip(runs, others, strict=True)
    ]
    return np.mean(wins, axis=0)


def _profile(runs: Runs, thresholds: Sequence[float]) -> np.ndarray:
    """[..., thresholds]."""
    values = np.concatenate(runs, axis=-1)
    return np.stack([np.mean(values > threshold, axis=-1) for threshold in thresholds], axis=-1)


def _bootstrap(
    samples: list[Runs], statistic: Callable[[list[Runs]], np.ndarray], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of `statistic`; each task's runs are resampled separately."""
    rng = np.random.default_rng(seed)
    drawn = [
        [values[rng.integers(0, len(values), (RESAMPLES, len(values)))] for values in runs]
        for runs in samples
    ]
    low, high = np.quantile(statistic(drawn), [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return low, high
