"""What scipy says of the unpaired t-test, with the project's degrees of freedom."""

from __future__ import annotations

import math
from typing import Any

from scipy import stats


def welch(a: Any, b: Any, confidence: float = 0.95) -> tuple[float, float, float, float]:
    """p, degrees of freedom, and the ends of the interval of mean(a) - mean(b): Welch's degrees less one, and
    no fewer than those of the smaller sample."""
    found = stats.ttest_ind(a, b, equal_var=False)
    df = max(found.df - 1, min(len(a), len(b)) - 1)
    of_welch = found.confidence_interval(confidence)
    middle, half = (of_welch.high + of_welch.low) / 2, (of_welch.high - of_welch.low) / 2
    tail = (1 + confidence) / 2
    half *= stats.t.ppf(tail, df) / stats.t.ppf(tail, found.df)
    return 2 * stats.t.sf(abs(found.statistic), df), df, middle - half, middle + half


def unpaired_power(effect: float, n: int, alpha: float) -> float:
    """The power of a t-test of two arms of n values at a difference of `effect` SDs."""
    df, shift = max(2 * n - 3, n - 1), effect * math.sqrt(n / 2)
    edge = stats.t.ppf(1 - alpha / 2, df)
    return float(stats.nct.sf(edge, df, shift) + stats.nct.cdf(-edge, df, shift))
