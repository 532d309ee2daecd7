"""Arms over several tasks: mean difference, interquartile mean, probability of improvement, profiles.

A value is a run on a task, in the same unit on all tasks (a share that is solved needs no scaling). All
intervals are 95% ones and are about these tasks, not about tasks in general. That of the mean difference is a
t interval over seeds, task by task (analysis.inference.contrasts). The others are of Agarwal et al. 2021,
"Deep reinforcement learning at the edge of the statistical precipice": percentiles of a bootstrap stratified
by task. They are too narrow where few runs are resampled (docs/statistics.md): below BOOTSTRAP_FROM runs of
an arm on a task there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare.ranking import seed_table
from analysis.inference.contrasts import contrast
from analysis.inference.intervals import ALPHA
from analysis.inference.significance import Pairing
from analysis.sweep import AnalysisError, Sweep

RESAMPLES = 2_000
BOOTSTRAP_FROM = 10  # runs of an arm on each task
Tables = Mapping[str, pd.DataFrame]  # task -> a row per seed, a column per arm
Runs = list[np.ndarray]  # the values of each task's runs


def tables_of(sweeps: Sequence[Sweep], metric: str | None = None) -> dict[str, pd.DataFrame]:
    """The input of the functions below: one table per sweep (task), by name, with the arms that all have.

    The default `metric` is that of `metrics_of`. Raises AnalysisError if no arm is in all sweeps, if
    two sweeps have the same name, or if their objectives differ in unit or mode.
    """
    names = [sweep.name for sweep in sweeps]
    shared = [arm for arm in sweeps[0].arms if all(arm in sweep.arms for sweep in sweeps)] if sweeps else []
    if not shared:
        raise AnalysisError(f"no arm is in all of {', '.join(names) or 'no sweeps'}: they cannot be compared")
    if len(set(names)) < len(names):
        raise AnalysisError(f"{', '.join(names)}: a sweep is a task here, and two have the same name")
    metrics = {sweep.name: metric or own for sweep, own in zip(sweeps, metrics_of(sweeps), strict=True)}
    if len({(sweep.maximise, sweep.unit(metrics[sweep.name])) for sweep in sweeps}) > 1:
        given = ", ".join(f"{metric} of {name}" for name, metric in metrics.items())
        raise AnalysisError(
            f"{given} differ in objective.unit or objective.mode: give sweeps in which both are equal, as "
            f"runs are compared over tasks"
        )
    return {sweep.name: seed_table(sweep, metrics[sweep.name])[shared] for sweep in sweeps}


def metrics_of(sweeps: Sequence[Sweep]) -> list[str]:
    """What the runs of each are compared by: the objective on test if all of them report it, else on val."""
    on_test = [sweep.test_metric for sweep in sweeps if sweep.test_metric]
    return on_test if len(on_test) == len(sweeps) else [sweep.metric for sweep in sweeps]


def mean_differences(tables: Tables, baseline: str, pairing: Pairing = "paired") -> pd.DataFrame:
    """`arm`, `n`, `diff`, `low`, `high`: the mean over tasks of the difference from the baseline's mean.

    All tasks have equal weight. Paired: over the seeds that both have on a task, else over those of each; `n`
    is the fewest on any task. Below four there is no interval.
    """
    by_arm = _by_arm(tables)
    rows = []
    for arm in by_arm:
        if arm == baseline:
            continue
        samples, weights = [], []
        for table in tables.values():
            if pairing == "paired":
                samples.append((table[arm] - table[baseline]).to_numpy(dtype=float))
                weights.append(1 / len(tables))
            else:
                samples += [table[name].to_numpy(dtype=float) for name in (arm, baseline)]
                weights += [1 / len(tables), -1 / len(tables)]
        whole = pd.DataFrame({place: pd.Series(values) for place, values in enumerate(samples)})
        found = contrast(whole, weights, "unpaired")  # runs on two tasks are independent
        rows.append((arm, found.n, found.value, found.interval.low, found.interval.high))
    return pd.DataFrame(rows, columns=["arm", "n", "diff", "low", "high"])


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
    by_arm = _by_arm(tables, 1.0 if maximise else -1.0)
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
    for arm, runs in _by_arm(tables, sign).items():
        share = _profile(runs, limits)
        low, high = _bootstrap([runs], lambda picked: _profile(picked[0], limits), seed)
        columns = {"arm": arm, "threshold": thresholds, "share": share, "low": low, "high": high}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _by_arm(tables: Tables, sign: float = 1.0) -> dict[str, Runs]:
    """Each arm's runs by task, times `sign`. Raises AnalysisError if an arm has no value on some task."""
    arms = list(next(iter(tables.values())).columns)
    found = {
        arm: [sign * table[arm].dropna().to_numpy(dtype=float) for table in tables.values()] for arm in arms
    }
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
    """Percentile interval of `statistic`; each task's runs are resampled separately. NaN of too few runs."""
    if min(len(values) for runs in samples for values in runs) < BOOTSTRAP_FROM:
        return (np.full(np.shape(statistic(samples)), np.nan),) * 2
    rng = np.random.default_rng(seed)
    drawn = [
        [values[rng.integers(0, len(values), (RESAMPLES, len(values)))] for values in runs]
        for runs in samples
    ]
    low, high = np.quantile(statistic(drawn), [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return low, high
