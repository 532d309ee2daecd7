"""The upper limit of a standard deviation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.inference.spread import MIN_DF, PLAN_AT, upper_sd


@pytest.mark.parametrize("df", [3, 7.5, 40])
def test_it_is_the_limit_of_the_chi_squared_distribution(df: float) -> None:
    assert upper_sd(2.0, df) == pytest.approx(2.0 * math.sqrt(df / stats.chi2.ppf(1 - PLAN_AT, df)))
    assert upper_sd(2.0, df) > 2.0


def test_four_of_five_true_sds_are_below_it() -> None:
    samples = np.random.default_rng(0).normal(0, 3.0, (4000, 5))
    held = [upper_sd(sample.std(ddof=1), 4) >= 3.0 for sample in samples]
    assert np.mean(held) == pytest.approx(PLAN_AT, abs=0.02)


def test_too_few_degrees_of_freedom_have_none() -> None:
    assert math.isnan(upper_sd(2.0, MIN_DF - 0.1)) and math.isnan(upper_sd(2.0, math.nan))
