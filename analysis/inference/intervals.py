"""Confidence intervals of a mean and of a difference of means: Student t below 20 values, else BCa.

BCa (Efron 1987, "Better bootstrap confidence intervals") covers only 84% at n = 5 on normal data; from n = 20
it fits skewed data better than t. Two deviations: its quantiles are those of t instead of the normal, and are
widened because the bootstrap's variance is that of the sample, not of the population (Hesterberg 2015, "What
teachers should know about the bootstrap", the expanded percentile interval). Without both, it covers 92% on
normal samples of 20. The weights of the resamples are drawn once for each n, so that equal values have equal
intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special

ALPHA = 0.05
MIN_FOR_INTERVAL = 4  # seeds; below, the values themselves say more than an interval
BCA_FROM = 20  # the fewest values for BCa (of the smaller of two samples)
RESAMPLES = 9_999
ROUNDING = 1e-12  # relative

Values = Any  # a sequence, an array or a pandas Series of numbers; pandas is not imported here
Limits = tuple[float, float]


@dataclass(frozen=True)
class Interval:
    """A mean, or a difference of means, and its 95% confidence interval over n values.

    The ends are NaN, and `method` is empty, if there are too few values. `method` is "t" or "BCa".
    """

    n: int
    mean: float
    low: float
    high: float
    method: str = ""

    def cut(self, limits: Limits) -> Interval:
        """The interval with its ends clipped to `limits`, the smallest and largest possible value."""
        low, high = (float(np.clip(end, *limits)) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


def of_differences(limits: Limits) -> Limits:
    """The limits of a difference of two values with these limits."""
    least, most = limits
    return least - most, most - least


@dataclass(frozen=True)
class Estimate:
    """An estimate, its standard error, and the degrees of freedom of its t distribution."""

    value: float
    error: float
    df: float

    @property
    def has_spread(self) -> bool:
        """Whether the error is larger than the rounding error of equal values."""
        return self.error > ROUNDING * abs(self.value)

    @property
    def p(self) -> float:
        """Two-sided p of the t-test that the true value is 0; NaN without spread."""
        if not self.has_spread:
            return math.nan
        return float(2 * special.stdtr(self.df, -abs(self.value) / self.error))

    def equivalence_p(self, margin: float) -> float:
        """p of two one-sided t-tests (Schuirmann 1987): small if the true value is within +-margin; NaN
        without spread."""
        if not self.has_spread:
            return math.nan
        return float(special.stdtr(self.df, (abs(self.value) - margin) / self.error))

    def equivalence_ends(self, level: float) -> tuple[float, float]:
        """The interval that two one-sided tests at `level` invert: within +-margin exactly where they reject.

        It always holds 0 (Hsu et al. 1994, "Confidence intervals associated with tests for bioequivalence"),
        and covers the true value with probability 1 - level.
        """
        low, high = self.t_ends(1 - 2 * level)
        return min(low, 0.0), max(high, 0.0)

    def t_ends(self, confidence: float) -> tuple[float, float]:
        half = special.stdtrit(self.df, (1 + confidence) / 2) * self.error
        return float(self.value - half), float(self.value + half)


def finite(values: Values) -> np.ndarray:
    """The finite values."""
    array = np.asarray(values, dtype=float)
    return array[np.isfinite(array)]


def mean_of(values: np.ndarray) -> Estimate:
    """The mean of at least two values."""
    n = len(values)
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), n - 1)


def difference_of(a: np.ndarray, b: np.ndarray) -> Estimate:
    """mean(a) - mean(b), of independent samples of unequal variance, with Welch's degrees of freedom."""
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    weights = parts**2 / (len(a) - 1, len(b) - 1)
    df = parts.sum() ** 2 / weights.sum() if weights.sum() > 0 else len(a) + len(b) - 2
    return Estimate(float(a.mean() - b.mean()), math.sqrt(parts.sum()), float(df))


def share_interval(hits: int, n: int, confidence: float = 1 - ALPHA) -> tuple[float, float]:
    """The exact interval of a share, `hits` of `n` (Clopper and Pearson 1934); NaN where n is 0."""
    if not n:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low = special.betaincinv(hits, n - hits + 1, tail) if hits else 0.0
    high = special.betaincinv(hits + 1, n - hits, 1 - tail) if hits < n else 1.0
    return float(low), float(high)


def t_interval(values: Values, confidence: float = 1 - ALPHA) -> Interval:
    """Student-t interval of the mean. Ignores values that are not finite."""
    array = finite(values)
    if len(array) < 2:
        return Interval(len(array), float(array[0]) if len(array) else math.nan, math.nan, math.nan)
    found = mean_of(array)
    return Interval(len(array), found.value, *found.t_ends(confidence), "t")


def mean_interval(values: Values, confidence: float = 1 - ALPHA) -> Interval:
    """Interval of the mean, by the method for its n. For paired samples, pass the differences."""
    array = finite(values)
    if len(array) < BCA_FROM:
        return t_interval(array, confidence)
    ends = _bca((array,), mean_of(array), confidence)
    return Interval(len(array), float(array.mean()), *ends, "BCa")


def difference_interval(a: Values, b: Values, confidence: float = 1 - ALPHA) -> Interval:
    """Interval of mean(a) - mean(b), unpaired: Welch's t (1947), or BCa with each sample resampled by itself.

    Its n is that of the smaller sample.
    """
    a, b = finite(a), finite(b)
    n = min(len(a), len(b))
    if n < 2:
        gap = float(a.mean() - b.mean()) if n else math.nan
        return Interval(n, gap, math.nan, math.nan)
    found = difference_of(a, b)
    if n < BCA_FROM:
        return Interval(n, found.value, *found.t_ends(confidence), "t")
    return Interval(n, found.value, *_bca((a, b), found, confidence), "BCa")


@lru_cache(maxsize=32)
def _weights(n: int, sample: int) -> np.ndarray:
    """[RESAMPLES, n] weights of the values; the means of the resamples are `weights @ values`."""
    rng = np.random.default_rng([n, sample])
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def _bca(samples: tuple[np.ndarray, ...], found: Estimate, confidence: float) -> tuple[float, float]:
    """The ends of the interval of one sample's mean, or of the difference of two means."""
    if not found.has_spread:
        return found.value, found.value
    signs = (1.0, -1.0)[: len(samples)]
    drawn, influences, plain = np.zeros(RESAMPLES), [], 0.0
    for place, (sign, values) in enumerate(zip(signs, samples, strict=True)):
        n = len(values)
        drawn = drawn + sign * (_weights(n, place) @ values)
        influences.append(sign * (values - values.mean()) / n)
        plain += values.var() / n
    influence = np.concatenate(influences)
    acceleration = float((influence**3).sum() / (6 * (influence**2).sum() ** 1.5))
    tail = (1 + confidence) / 2
    z = special.stdtrit(found.df, tail) * found.error / math.sqrt(plain)  # Hesterberg's expansion
    ties = np.count_nonzero(drawn == found.value)
    below = (np.count_nonzero(drawn < found.value) + ties / 2) / RESAMPLES
    bias = special.ndtri(below)
    shifted = bias + np.array([-z, z])
    shares = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)
