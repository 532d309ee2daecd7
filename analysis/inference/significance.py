"""Tests of a difference of means, paired and not, by permutation and by t; many of them at once; equivalence.

The permutation tests are exact: they assume no distribution, but cannot give less than their floor
(`smallest_p`), which few seeds and a family of comparisons can lift above 5%. The t-tests have no floor, and
assume that means are about normal.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import special

from analysis.inference.intervals import ALPHA, ROUNDING, Estimate, Values, difference_of, finite, mean_of

Test = Literal["permutation", "t"]
Pairing = Literal["paired", "unpaired"]
NAMES: dict[tuple[Test, Pairing], str] = {
    ("permutation", "paired"): "sign-flip test",
    ("permutation", "unpaired"): "two-sample permutation test",
    ("t", "paired"): "paired t-test",
    ("t", "unpaired"): "Welch t-test",
}
EXACT_UP_TO = 200_000  # splits of two samples that are enumerated; beyond, they are drawn
PAIRS_UP_TO = 16  # of paired samples: 2^16 patterns of signs
DRAWN = 20_000
MOST_SEEDS = 1_000


def sign_flip_p(differences: Values, seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test that the mean difference is 0.

    Exact up to PAIRS_UP_TO differences: the share of all 2^n sign patterns whose sum is at least as far from
    0 as the one seen. Beyond, patterns drawn with `seed`, the seen one counted in. NaN without any value.
    """
    array = finite(differences)
    if len(array) == 0:
        return math.nan
    seen = abs(array.sum()) - ROUNDING * np.abs(array).sum()  # what ties but for rounding counts as a tie
    if len(array) > PAIRS_UP_TO:
        sums = _drawn_signs(len(array), seed) @ array
        return float((np.count_nonzero(np.abs(sums) >= seen) + 1) / (DRAWN + 1))
    sums = array[:1]  # the first sign may stay: the other half of the patterns mirrors this one
    for value in array[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= seen))


def two_sample_p(a: Values, b: Values, seed: int = 0) -> float:
    """Two-sided p of the two-sample permutation test that a and b have one distribution.

    Exact where there are at most EXACT_UP_TO ways to split them: the share of splits whose means are at least
    as far apart as those seen. Beyond, splits drawn with `seed`, the seen one counted in. NaN where one is
    empty.
    """
    a, b = finite(a), finite(b)
    if not len(a) or not len(b):
        return math.nan
    pooled = np.concatenate([a, b])
    pooled = pooled - pooled.mean()  # then the first sample's sum alone tells how far apart the means are
    seen = abs(pooled[: len(a)].sum()) - ROUNDING * np.abs(pooled).sum()
    if math.comb(len(pooled), len(a)) <= EXACT_UP_TO:
        return float(np.mean(np.abs(_sums_of(pooled, len(a))) >= seen))
    sums = pooled[_drawn_splits(len(pooled), len(a), seed)].sum(axis=1)
    return float((np.count_nonzero(np.abs(sums) >= seen) + 1) / (DRAWN + 1))


@lru_cache(maxsize=4)
def _drawn_signs(n: int, seed: int) -> np.ndarray:
    """[DRAWN, n] of 1 and -1."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(DRAWN, n))


@lru_cache(maxsize=4)
def _drawn_splits(n: int, size: int, seed: int) -> np.ndarray:
    """[DRAWN, size]: places, out of n, of those that a random split puts into the first sample."""
    places = np.tile(np.arange(n, dtype=np.int16), (DRAWN, 1))
    return np.random.default_rng(seed).permuted(places, axis=1)[:, :size].copy()


def _sums_of(values: np.ndarray, size: int) -> np.ndarray:
    """The sum of every subset of so many values."""
    sums = [np.zeros(1), *[np.zeros(0)] * size]
    for done, value in enumerate(values):
        least = max(1, size - (len(values) - done - 1))  # smaller ones can no longer get there
        for chosen in range(min(size, done + 1), least - 1, -1):
            sums[chosen] = np.concatenate([sums[chosen], sums[chosen - 1] + value])
    return sums[size]


def paired_t_p(differences: Values) -> float:
    """Two-sided p of the paired t-test; NaN below two values, and where they have no spread."""
    array = finite(differences)
    return _t_p(mean_of(array)) if len(array) > 1 else math.nan


def welch_p(a: Values, b: Values) -> float:
    """Two-sided p of Welch's t-test; NaN below two values each, and where they have no spread."""
    a, b = finite(a), finite(b)
    return _t_p(difference_of(a, b)) if min(len(a), len(b)) > 1 else math.nan


def _t_p(found: Estimate) -> float:
    if not found.has_spread:
        return math.nan
    return float(2 * special.stdtr(found.df, -abs(found.value) / found.error))


def paired_equivalence_p(differences: Values, margin: float) -> float:
    """p of two one-sided t-tests (Schuirmann 1987): small where the mean difference is within +-margin."""
    array = finite(differences)
    return _equivalence_p(mean_of(array), margin) if len(array) > 1 else math.nan


def unpaired_equivalence_p(a: Values, b: Values, margin: float) -> float:
    """The same of mean(a) - mean(b), unpaired and of unequal variance (Welch)."""
    a, b = finite(a), finite(b)
    return _equivalence_p(difference_of(a, b), margin) if min(len(a), len(b)) > 1 else math.nan


def _equivalence_p(found: Estimate, margin: float) -> float:
    if not found.has_spread:
        return math.nan
    return float(special.stdtr(found.df, (abs(found.value) - margin) / found.error))


# What n can give


def smallest_p(
    n: int, test: Test = "permutation", pairing: Pairing = "paired", other: int | None = None
) -> float:
    """The least p that the test can give with n pairs, or with n values against `other` (default: n).

    A t-test has no floor from two values on: 0. NaN where there is nothing to test.
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
    """The least number of seeds at which one of so many comparisons could be significant."""
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
    """q, the false discovery rate at which each would be taken up (1995): for screening, never for a claim.

    NaN stays NaN; `family` as in `holm`.
    """
    p, order, family = _ordered(p_values, family)
    adjusted = np.full(len(p), math.nan)
    steps = p[order] * family / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return adjusted


def _ordered(p_values: Values, family: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """The p, the places of the finite ones from the least up, and how many comparisons there are."""
    p = np.asarray(p_values, dtype=float)
    members = np.flatnonzero(np.isfinite(p))
    order = members[np.argsort(p[members], kind="stable")]
    return p, order, len(order) if family is None else family
