"""Permutation tests of a difference of means, paired and unpaired; what n seeds can show; families.

They are exact and assume no distribution, but have a smallest p (`smallest_p`), which can exceed 5% with few
seeds and many comparisons. The t-tests (`analysis.inference.intervals.Estimate`) have none, and assume that
means are about normal.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np

from analysis.inference.intervals import ALPHA, ROUNDING, Values, finite

Test = Literal["permutation", "t"]
Pairing = Literal["paired", "unpaired"]
NAMES: dict[tuple[Test, Pairing], str] = {
    ("permutation", "paired"): "sign-flip test",
    ("permutation", "unpaired"): "two-sample permutation test",
    ("t", "paired"): "paired t-test",
    ("t", "unpaired"): "Welch t-test",
}
EXACT_UP_TO = 200_000  # splits of two samples to enumerate; random ones if there are more
PAIRS_UP_TO = 16  # pairs whose 2^16 patterns of signs are enumerated
DRAWN = 20_000
MOST_SEEDS = 1_000


def sign_flip_p(differences: Values) -> float:
    """Two-sided p of the sign-flip permutation test that the mean difference is 0.

    Exact up to PAIRS_UP_TO differences: the share of all 2^n sign patterns whose sum is at least as far from
    0 as the observed one. Beyond, random patterns, seeded, and the observed one. NaN without values.
    """
    array = finite(differences)
    if len(array) == 0:
        return math.nan
    seen = abs(array.sum()) - ROUNDING * np.abs(array).sum()  # sums equal up to rounding are ties
    if len(array) > PAIRS_UP_TO:
        sums = _drawn_signs(len(array)) @ array
        return float((np.count_nonzero(np.abs(sums) >= seen) + 1) / (DRAWN + 1))
    sums = array[:1]  # the first sign is fixed: the other half of the patterns is a mirror image
    for value in array[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= seen))


def two_sample_p(a: Values, b: Values) -> float:
    """Two-sided p of the two-sample permutation test that a and b have the same distribution.

    Exact with at most EXACT_UP_TO splits: the share of splits whose means are at least as far apart as
    the observed ones. Beyond, random splits, seeded, and the observed one. NaN if a sample is empty.
    """
    a, b = finite(a), finite(b)
    if not len(a) or not len(b):
        return math.nan
    pooled = np.concatenate([a, b])
    pooled = pooled - pooled.mean()  # the first sample's sum then determines the difference
    seen = abs(pooled[: len(a)].sum()) - ROUNDING * np.abs(pooled).sum()
    if math.comb(len(pooled), len(a)) <= EXACT_UP_TO:
        return float(np.mean(np.abs(_sums_of(pooled, len(a))) >= seen))
    sums = pooled[_drawn_splits(len(pooled), len(a))].sum(axis=1)
    return float((np.count_nonzero(np.abs(sums) >= seen) + 1) / (DRAWN + 1))


@lru_cache(maxsize=4)
def _drawn_signs(n: int) -> np.ndarray:
    """[DRAWN, n] of 1 and -1."""
    return np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWN, n))


@lru_cache(maxsize=4)
def _drawn_splits(n: int, size: int) -> np.ndarray:
    """[DRAWN, size]: indices of the values in the first sample of each random split of n values."""
    places = np.tile(np.arange(n, dtype=np.int16), (DRAWN, 1))
    return np.random.default_rng(0).permuted(places, axis=1)[:, :size].copy()


def _sums_of(values: np.ndarray, size: int) -> np.ndarray:
    """The sums of all subsets of `size` values."""
    sums = [np.zeros(1), *[np.zeros(0)] * size]
    for done, value in enumerate(values):
        least = max(1, size - (len(values) - done - 1))  # smaller subsets can no longer reach `size`
        for chosen in range(min(size, done + 1), least - 1, -1):
            sums[chosen] = np.concatenate([sums[chosen], sums[chosen - 1] + value])
    return sums[size]


# What n can give


def smallest_p(
    n: int, test: Test = "permutation", pairing: Pairing = "paired", other: int | None = None
) -> float:
    """The smallest p that the test can give with n pairs, or with n values against `other` (default: n).

    0 for a t-test of two or more values. NaN if there is nothing to test.
    """
    other = n if other is None else other
    if test == "t":
        return 0.0 if min(n, other) > 1 else math.nan
    if min(n, other) < 1:
        return math.nan
    if pairing == "paired":
        return 2.0 ** (1 - n) if n <= PAIRS_UP_TO else 1 / (DRAWN + 1)
    splits = math.comb(n + other, n)
    return min((2 if n == other else 1) / splits, 1.0) if splits <= EXACT_UP_TO else 1 / (DRAWN + 1)


def seeds_needed(
    comparisons: int, test: Test = "permutation", pairing: Pairing = "paired", alpha: float = ALPHA
) -> int:
    """The fewest seeds with which one of this many comparisons can be significant."""
    wanted = alpha / max(comparisons, 1)
    return next(n for n in range(1, MOST_SEEDS) if smallest_p(n, test, pairing) <= wanted)


# Many at once


def holm(p_values: Values, family: int | None = None) -> np.ndarray:
    """Holm's step-down adjustment (1979). NaN stays NaN.

    `family` is how many comparisons the sweep is to make (default: the finite p). Those that are missing
    count as the largest p: what failed or has not run yet must not make the others look significant.
    """
    p, order, family = _ordered(p_values, family)
    adjusted = np.full(len(p), math.nan)
    steps = p[order] * np.arange(family, family - len(order), -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def benjamini_hochberg(p_values: Values, family: int | None = None) -> np.ndarray:
    """q, the false discovery rate at which each is accepted (1995): for screening, never for a claim.

    NaN stays NaN; `family` as in `holm`.
    """
    p, order, family = _ordered(p_values, family)
    adjusted = np.full(len(p), math.nan)
    steps = p[order] * family / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return adjusted


def _ordered(p_values: Values, family: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """The p, the indices of the finite ones in ascending order, and the number of comparisons."""
    p = np.asarray(p_values, dtype=float)
    members = np.flatnonzero(np.isfinite(p))
    order = members[np.argsort(p[members], kind="stable")]
    return p, order, len(order) if family is None else family
