"""The smallest true difference that a comparison of two arms detects, and the number of seeds it requires.

A comparison belongs to a family; Holm's procedure requires alpha / comparisons for the first. `sd` is the
standard deviation of the difference between a trial of one arm and a trial of the other, over shared seeds if
they are paired; differences are in the units of `sd`. Values are assumed to be normal. The power of the
t-tests is that of the noncentral t (Cohen 1988, chapter 2). A permutation test has a smallest p: 2^(1-n) with
n pairs, 2 / C(2n, n) with n values against n. Its power is simulated if there are few patterns; otherwise it
is taken as that of the t-test at the largest level that it can attain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import special

from analysis.inference.intervals import ALPHA
from analysis.inference.significance import Pairing, Test, seeds_needed

POWER = 0.8
MOST_SEEDS = 2_000
SIMULATED_UP_TO = 1_800  # patterns, without mirror images
REPEATS = 4_000
PRECISION = 1e-3  # of a simulated difference, in SDs


def detectable(
    n: int,
    sd: float,
    comparisons: int,
    test: Test,
    pairing: Pairing,
    alpha: float = ALPHA,
) -> float:
    """The smallest true difference that n seeds detect with the probability POWER, two-sided.

    Infinite if no result can be significant, however large the difference.
    """
    level = alpha / max(comparisons, 1)
    if test == "t":
        return sd * _by_t(n, level, pairing)
    patterns = _patterns(n, pairing)
    attained = math.floor(level * patterns * (1 + 1e-9)) / patterns
    if not attained:
        return math.inf
    by = _by_simulation if patterns <= SIMULATED_UP_TO else _by_t
    return sd * by(n, attained, pairing)


def seeds_needed_for(
    difference: float,
    sd: float,
    comparisons: int,
    test: Test,
    pairing: Pairing,
    alpha: float = ALPHA,
) -> int | None:
    """The fewest seeds that detect a true difference of this size; None if MOST_SEEDS do not."""
    if not (math.isfinite(difference) and math.isfinite(sd)) or difference == 0:
        return None
    level = alpha / max(comparisons, 1)
    quantiles = special.ndtri(1 - level / 2) + special.ndtri(POWER)
    normal = (quantiles * sd / abs(difference)) ** 2  # with a known SD: a lower bound for all tests
    begin = max(seeds_needed(comparisons, test, pairing, alpha), math.floor(0.9 * min(normal, MOST_SEEDS)))
    found = (
        n
        for n in range(begin, MOST_SEEDS + 1)
        if detectable(n, sd, comparisons, test, pairing, alpha) <= abs(difference)
    )
    return next(found, None)


def seeds_for_equivalence(
    difference: float,
    sd: float,
    margin: float,
    comparisons: int,
    pairing: Pairing,
    alpha: float = ALPHA,
) -> int | None:
    """The fewest seeds with which two one-sided t-tests show that a true difference is within +-margin.

    None if MOST_SEEDS do not suffice, or if the difference is not smaller than the margin.
    """
    room = margin - abs(difference)
    if not (math.isfinite(room) and math.isfinite(sd) and room > 0 and sd > 0):
        return None
    level = alpha / max(comparisons, 1)
    quantiles = special.ndtri(1 - level) + special.ndtri(POWER)
    normal = (quantiles * sd / room) ** 2  # with a known SD, and the other bound far away
    for n in range(max(2, math.floor(0.9 * min(normal, MOST_SEEDS))), MOST_SEEDS + 1):
        df, error = _df(n, pairing), sd / math.sqrt(n)
        edge = special.stdtrit(df, 1 - level)
        below = special.nctdtr(df, (abs(difference) - margin) / error, -edge)
        above = special.nctdtr(df, (abs(difference) + margin) / error, edge)
        if below - above >= POWER:
            return n
    return None


def _df(n: int, pairing: str) -> int:
    """Degrees of freedom of the t-test; unpaired, as `unequal_df` of two SDs that are alike."""
    return n - 1 if pairing == "paired" else max(2 * n - 3, n - 1)


def _patterns(n: int, pairing: str) -> int:
    """Number of patterns of an exact test without mirror images; its smallest p is 1 over this number.

    n is limited to 40, beyond which the number no longer matters.
    """
    n = min(n, 40)
    return 2 ** (n - 1) if pairing == "paired" else math.comb(2 * n, n) // 2


@lru_cache
def _by_t(n: int, level: float, pairing: str) -> float:
    """The difference in SDs. Unpaired, two arms of n values have the standard error of n differences."""
    if n < 2:
        return math.inf
    df = _df(n, pairing)
    edge = special.stdtrit(df, 1 - level / 2)
    return float(special.nctdtrinc(df, 1 - POWER, edge)) / math.sqrt(n)  # the noncentrality with this power


@lru_cache
def _by_simulation(n: int, level: float, pairing: str) -> float:
    """The difference in SDs, over REPEATS seeded data sets, with all patterns of each."""
    contrasts = _sign_patterns(n) if pairing == "paired" else _splits(n)
    noise = np.random.default_rng(0).standard_normal((REPEATS, len(contrasts)))
    shifted = np.ones(n) if pairing == "paired" else np.repeat([1.0, 0.0], n)
    sums = noise @ contrasts * (1.0 if pairing == "paired" else math.sqrt(0.5))
    shifts = shifted @ contrasts
    allowed = round(level * contrasts.shape[1])

    def found(difference: float) -> float:
        statistics = np.abs(sums + difference * shifts)
        as_far = statistics >= statistics[:, :1] * (1 - 1e-12)  # the first pattern is the observed one
        return float(np.mean(np.count_nonzero(as_far, axis=1) <= allowed))

    return _where(found)


def _sign_patterns(n: int) -> np.ndarray:
    """(n, 2^(n-1)): all patterns of signs without mirror images; the first has no minus."""
    return np.array([(1.0, *signs) for signs in itertools.product((1.0, -1.0), repeat=n - 1)]).T


def _splits(n: int) -> np.ndarray:
    """(2n, C(2n, n) / 2): all splits into two arms without mirror images; the first is the observed one."""
    chosen = list(itertools.combinations(range(1, 2 * n), n - 1))
    columns = np.full((2 * n, len(chosen)), -1.0)
    columns[0] = 1.0
    for column, members in enumerate(chosen):
        columns[list(members), column] = 1.0
    return columns


def _where(found: Callable[[float], float]) -> float:
    """The difference at which `found`, which increases with it, reaches POWER."""
    low, high = 0.0, 1.0
    while found(high) < POWER:
        low, high = high, 2 * high
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= POWER else (middle, high)
    return high
