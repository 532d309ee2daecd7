"""A linear contrast of arms' means: its estimate, standard error, p and interval, all by one t distribution.

Paired: the contrast is taken at each seed that all its arms share, and these values are one sample
(one-sample t). Unpaired: the arms are independent samples of unequal spread (Welch 1947, Satterthwaite 1946).
For two arms these are the paired and the Welch t-test. Neither assumes that arms have the same spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.inference.intervals import (
    ALPHA,
    MIN_FOR_INTERVAL,
    ROUNDING,
    Estimate,
    Interval,
    Values,
    mean_of,
    unequal_df,
)
from analysis.inference.significance import Pairing


@dataclass(frozen=True)
class Contrast(Estimate):
    """`value`, `error` and `df`, NaN where they cannot be had; `n` is the number of seeds.

    Paired, `n` counts the shared seeds, and `values` are the contrast at each of them. Unpaired, `n` is that
    of the arm with the fewest seeds, and `values` is empty unless there is one arm only.
    """

    n: int
    values: tuple[float, ...] = ()

    @property
    def interval(self) -> Interval:
        """The 95% interval; below MIN_FOR_INTERVAL seeds its ends are NaN."""
        if self.n < MIN_FOR_INTERVAL or math.isnan(self.error):
            return Interval(self.n, self.value, math.nan, math.nan)
        return Interval(self.n, self.value, *self.t_ends(1 - ALPHA), "t")


def contrast(table: Values, weights: Sequence[float], pairing: Pairing) -> Contrast:
    """The sum of `weights` times the means of the columns of `table`.

    `table` is [seeds, arms], not finite where a value is missing; columns of weight 0 take no part. Needs two
    seeds: shared ones if paired, of each arm if not. Raises ValueError if the shapes do not fit.
    """
    given, signs = np.asarray(table, dtype=float), np.asarray(weights, dtype=float)
    if given.ndim != 2 or given.shape[1:] != signs.shape or not signs.any():
        raise ValueError(
            f"a table of shape {given.shape} and weights {list(weights)}: give [seeds, arms] and a weight "
            "for each arm, not all 0"
        )
    given, signs = given[:, signs != 0], signs[signs != 0]
    if pairing == "paired" or len(signs) == 1:
        return _paired(given, signs)
    return _unpaired([column[np.isfinite(column)] for column in given.T], signs)


def _paired(table: np.ndarray, weights: np.ndarray) -> Contrast:
    shared = table[np.isfinite(table).all(axis=1)]
    values = shared @ weights
    n, seen = len(values), tuple(map(float, values))
    if n < 2:
        return Contrast(seen[0] if seen else math.nan, math.nan, math.nan, n, seen)
    found = mean_of(values)
    return Contrast(found.value, _rounded(found.error, shared, weights), found.df, n, seen)


def _unpaired(samples: list[np.ndarray], weights: np.ndarray) -> Contrast:
    n = min(map(len, samples))
    value = float(weights @ [sample.mean() for sample in samples]) if n else math.nan
    if n < 2:
        return Contrast(value, math.nan, math.nan, n)
    parts = np.array([w**2 * x.var(ddof=1) / len(x) for w, x in zip(weights, samples, strict=True)])
    freedom = np.array([len(sample) - 1 for sample in samples])
    df = float(unequal_df(parts, freedom))
    return Contrast(value, _rounded(math.sqrt(parts.sum()), np.concatenate(samples), weights), df, n)


def _rounded(error: float, values: np.ndarray, weights: np.ndarray) -> float:
    """0 for an error that is only the rounding of sums of these values."""
    return error if error > ROUNDING * np.abs(values).max() * np.abs(weights).sum() else 0.0
