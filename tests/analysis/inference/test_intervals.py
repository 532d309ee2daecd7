"""Intervals against scipy's: Student's and Welch's t, and its BCa bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.intervals import BCA_FROM, cut_ends, difference_of, mean_interval, t_interval
from tests.analysis.inference.oracles import welch

numbers = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
samples = st.lists(numbers, min_size=2, max_size=8)


@given(samples)
def test_t_interval_is_scipys(values: list[float]) -> None:
    found = t_interval(values)
    if np.std(values) == 0:
        assert found.low == pytest.approx(found.high)
        return
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.n == len(values) and found.mean == pytest.approx(np.mean(values))


def test_t_interval_leaves_out_what_is_not_finite_and_needs_two() -> None:
    assert t_interval([1.0, math.nan, 3.0, math.inf]).n == 2
    one, none = t_interval([0.7]), t_interval([])
    assert one.mean == 0.7 and math.isnan(one.low) and math.isnan(none.mean) and none.n == 0
    assert one.method == ""


@given(samples, samples)
def test_a_difference_has_welchs_degrees_of_freedom_less_one(a: list[float], b: list[float]) -> None:
    found = difference_of(np.array(a), np.array(b))
    assert found.value == pytest.approx(np.mean(a) - np.mean(b))
    if min(np.std(a), np.std(b)) > 1e-9:
        p, df, *ends = welch(a, b)
        assert found.df == pytest.approx(df) and found.p == pytest.approx(p)
        assert found.t_ends(0.95) == pytest.approx(tuple(ends))


@pytest.mark.parametrize("n", [BCA_FROM, 35])
@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_bca_is_scipys_at_the_expanded_level(n: int, kind: str) -> None:
    """The expansion is a wider nominal level; what is left is the luck of 9,999 resamples."""
    values = getattr(np.random.default_rng(n), kind)(size=n)
    found = mean_interval(values)
    level = 2 * stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)) - 1
    oracle = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=40_000, method="BCa", rng=1
    ).confidence_interval
    width = oracle.high - oracle.low
    assert found.method == "BCa" and found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(oracle.low, abs=0.03 * width)
    assert found.high == pytest.approx(oracle.high, abs=0.03 * width)


def test_the_method_changes_at_twenty_and_the_same_values_give_the_same_ends() -> None:
    values = np.random.default_rng(0).normal(size=BCA_FROM)
    assert mean_interval(values[:-1]).method == "t" and mean_interval(values).method == "BCa"
    assert mean_interval(values) == mean_interval(list(values))
    assert mean_interval([0.4] * 25).low == mean_interval([0.4] * 25).high == pytest.approx(0.4)
    skewed = np.random.default_rng(1).exponential(size=30)
    found = mean_interval(skewed)
    assert found.high - found.mean > found.mean - found.low  # it leans the way that the data do


def test_an_interval_that_holds_every_possible_value_is_none() -> None:
    assert cut_ends((-0.2, 0.9), (0.0, 1.0)) == (0.0, 0.9)
    assert all(map(math.isnan, cut_ends((-0.2, 1.1), (0.0, 1.0))))
    assert cut_ends((-9.0, 9.0), (-math.inf, math.inf)) == (-9.0, 9.0)
    found = mean_interval([0.0, 1.0, 0.0, 1.0]).cut((0.0, 1.0))
    assert found.mean == 0.5 and math.isnan(found.low) and math.isnan(found.high) and not found.method
