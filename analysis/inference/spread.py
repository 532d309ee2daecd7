"""The upper limit of a standard deviation, from which seeds are planned."""

from __future__ import annotations

import math

from scipy import special

PLAN_AT = 0.8  # one-sided confidence that the true SD is no larger
MIN_DF = 3  # degrees of freedom of an SD that is planned from


def upper_sd(sd: float, df: float) -> float:
    """The one-sided 80% upper confidence limit of the true SD, given one of `df` degrees of freedom.

    By chi-squared, of normal values. An SD of few degrees of freedom is mostly below the true one, so that a
    plan from the SD seen is mostly too small. NaN below MIN_DF, which say too little.
    """
    if not df >= MIN_DF:
        return math.nan
    return float(sd * math.sqrt(df / special.chdtri(df, PLAN_AT)))
