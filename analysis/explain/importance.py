"""How much of the variance between trials each factor, tuned value and the seed account for.

The main-effect index of functional ANOVA (Sobol' 1993; Hutter et al. 2014): the variance of the means of a
factor's levels, as a share of all variance. It is computed from the trials, not from a fitted model, and
corrected for chance (epsilon squared, Kelley 1935); tuned numbers are binned into quarters. Only trials that
were not selected on their own result count; if some were stopped, values are those before the first stop. A
factor that applies to some arms only is evaluated among these. Main effects do not include interactions
(analysis.explain.interactions), and their shares need not add up to 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.design import levels
from analysis.stopping.common_samples import unselected
from analysis.sweep import Sweep

BINS = 4
RESAMPLES = 1_000
COLUMNS = ("name", "kind", "n", "n_levels", "share", "low", "high", "samples")


def importances(sweep: Sweep, metric: str | None = None, seed: int = 0) -> pd.DataFrame:
    """A row per factor, tuned value and "seed", the largest share first; columns: COLUMNS.

    `share` of the variance of `metric` (default: the objective) among the `n` trials of all arms that have
    it, from 0 to 1, with a 95% percentile interval of resampled trials (`seed`), which is approximate
    and biased upwards (docs/statistics.md); NaN if nothing varies. `kind` is "factor", "tuned" or "seed".
    `samples` is the number of samples of the values, NaN for final values.
    """
    pool = unselected(sweep, metric)
    y = pool.trials["value"].to_numpy(dtype=float)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for name, kind, groups in _groups(sweep, pool.trials):
        there = groups >= 0
        codes, values = groups[there], y[there]
        row: dict[str, Any] = {"name": name, "kind": kind, "n": len(values), "samples": pool.samples}
        row |= {"n_levels": len(np.unique(codes)), "share": share_of(codes, values)}
        if math.isfinite(row["share"]):
            picks = rng.integers(0, len(values), (RESAMPLES, len(values)))
            shares = [share_of(codes[pick], values[pick]) for pick in picks]
            row["low"], row["high"] = np.nanquantile(shares, [0.025, 0.975])
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)


def share_of(codes: np.ndarray, values: np.ndarray) -> float:
    """Epsilon squared: 1 - (mean square within groups) / (mean square in all), not below 0.

    NaN with fewer than two groups, no more values than groups, or no variance.
    """
    names, places = np.unique(codes, return_inverse=True)
    if len(names) < 2 or len(values) <= len(names):
        return math.nan
    total = values.var(ddof=1)
    if not total > 1e-24 * np.abs(values).max() ** 2:
        return math.nan
    means = np.bincount(places, values) / np.bincount(places)
    within = float(((values - means[places]) ** 2).sum()) / (len(values) - len(names))
    return max(0.0, 1 - within / float(total))


def _groups(sweep: Sweep, trials: pd.DataFrame) -> list[tuple[str, str, np.ndarray]]:
    """Name, kind, and the group of each trial (-1: none)."""
    table = levels(sweep)
    found = [
        (factor, "factor", pd.factorize(trials["arm"].map(table[factor]))[0])
        for factor in sweep.factors
        if table[factor].nunique() > 1
    ]
    for name in sweep.space.get("tune") or {}:
        if name in trials:
            found.append((str(name), "tuned", _binned(trials[name])))
    if trials["seed"].nunique() > 1:
        found.append(("seed", "seed", pd.factorize(trials["seed"])[0]))
    return found


def _binned(values: pd.Series) -> np.ndarray:
    """Groups of values: numbers in quarters of about equal size, others by value; -1 if missing."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers[values.notna()].isna().any() or numbers.nunique() <= BINS:
        return pd.factorize(values.astype(str).where(values.notna()))[0]
    quarters = pd.qcut(numbers.rank(), BINS, labels=False, duplicates="drop")
    return quarters.fillna(-1).to_numpy(dtype=int)
