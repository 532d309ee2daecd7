"""Tests, adjustments and equivalence against scipy and statsmodels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import multitest, weightstats

from analysis.inference.intervals import difference_of, mean_of
from analysis.inference.significance import (
    benjamini_hochberg,
    holm,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    two_sample_p,
)
from tests.analysis.inference.oracles import welch
from tests.analysis.inference.test_intervals import samples


@settings(deadline=None, max_examples=40)
@given(samples)
def test_sign_flip_is_scipys_exact_permutation_test(values: list[float]) -> None:
    oracle = stats.permutation_test(
        (np.array(values),), np.mean, permutation_type="samples", n_resamples=10_000
    )
    assert sign_flip_p(values) == pytest.approx(oracle.pvalue)


binary = st.integers(-800, 800).map(lambda value: value / 8)  # their sums are exact


@settings(deadline=None, max_examples=40)
@given(st.lists(binary, min_size=2, max_size=5), st.lists(binary, min_size=2, max_size=5))
def test_two_sample_is_scipys_exact_permutation_test(a: list[float], b: list[float]) -> None:
    """Two-sided by distance from 0; scipy's doubles the smaller tail, the same for samples of one size.

    Without rounding: what scipy lets pass for a tie is a share of the difference seen, not of the values, so
    that among samples of nearly one mean it takes rounding for a difference.
    """

    def distance(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        """Of the means, times what makes it exact."""
        return abs(x.sum(axis=axis) * len(b) - y.sum(axis=axis) * len(a))

    oracle = stats.permutation_test(
        (np.array(a), np.array(b)), distance, permutation_type="independent", alternative="greater",
        n_resamples=10_000,
    )  # fmt: skip
    assert two_sample_p(a, b) == pytest.approx(oracle.pvalue)
    assert two_sample_p(b, a) == pytest.approx(two_sample_p(a, b))


tenths = st.lists(st.integers(-6, 6).map(lambda value: value / 10), min_size=2, max_size=4)


@example([0.5, 0.1, 0.0, -0.2], [0.1, 0.1])  # one mean, but for rounding: scipy's p is 0.87
@given(tenths, tenths)
def test_what_ties_but_for_rounding_is_a_tie(a: list[float], b: list[float]) -> None:
    """Against all splits in whole numbers of tenths."""
    pooled, size = [round(10 * value) for value in (*a, *b)], len(a)

    def distance(first: Sequence[int]) -> int:
        return abs(sum(first) * len(b) - (sum(pooled) - sum(first)) * len(a))

    splits = [distance(first) >= distance(pooled[:size]) for first in combinations(pooled, size)]
    assert two_sample_p(a, b) == pytest.approx(np.mean(splits))


@given(samples)
def test_sign_flip_does_not_depend_on_direction_and_has_a_floor(values: list[float]) -> None:
    p = sign_flip_p(values)
    assert smallest_p(len(values)) <= p <= 1
    assert sign_flip_p([-value for value in values]) == p


@given(samples, samples)
def test_two_sample_has_a_floor(a: list[float], b: list[float]) -> None:
    assert smallest_p(len(a), "permutation", "unpaired", len(b)) <= two_sample_p(a, b) <= 1


def test_the_floors_are_reached_and_how_many_seeds_pass_them() -> None:
    assert sign_flip_p([1.0, 2, 3, 4, 5]) == 0.0625
    assert sign_flip_p([1.0, 2, 3, 4, 5, 6]) == 0.03125 == smallest_p(6)
    assert sign_flip_p([0.0, 0.0]) == 1.0 and math.isnan(sign_flip_p([math.nan]))
    low, high = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]
    assert two_sample_p(low, high) == 2 / 252 == smallest_p(5, "permutation", "unpaired")
    assert two_sample_p(low[:3], high) == 1 / 56 == smallest_p(3, "permutation", "unpaired", 5)
    assert [seeds_needed(k) for k in (1, 5)] == [6, 8]
    assert [seeds_needed(k, "permutation", "unpaired") for k in (1, 5)] == [4, 5]
    assert seeds_needed(5, "t") == seeds_needed(5, "t", "unpaired") == 2
    assert math.isnan(smallest_p(1, "t")) and math.isnan(smallest_p(0)) and smallest_p(2, "t") == 0


def test_many_are_drawn_and_close_to_the_t_tests() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.4, 1, size=40), rng.normal(size=30)
    assert sign_flip_p(a) == sign_flip_p(a) and two_sample_p(a, b) == two_sample_p(a, b)
    assert sign_flip_p(a) == pytest.approx(stats.ttest_1samp(a, 0).pvalue, abs=0.01)
    assert two_sample_p(a, b) == pytest.approx(stats.ttest_ind(a, b).pvalue, abs=0.01)
    assert two_sample_p(a + 9, b) == smallest_p(40, "permutation", "unpaired", 30)


@given(samples)
def test_paired_t_and_equivalence_are_the_libraries(values: list[float]) -> None:
    assume(np.std(values) > 1e-6)
    assert mean_of(np.array(values)).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-12)
    oracle = weightstats.ttost_paired(np.array(values), np.zeros(len(values)), -2.0, 2.0)[0]
    assert mean_of(np.array(values)).equivalence_p(2.0) == pytest.approx(oracle, abs=1e-12)


@given(samples, samples)
def test_welch_and_unpaired_equivalence_are_of_one_estimate(a: list[float], b: list[float]) -> None:
    assume(np.std(a) > 1e-6 and np.std(b) > 1e-6)
    p, df, *_ = welch(a, b)
    found = difference_of(np.array(a), np.array(b))
    assert found.p == pytest.approx(p, abs=1e-12)
    error = math.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b))
    gap = np.mean(a) - np.mean(b)
    oracle = max(stats.t.sf((gap + 2.0) / error, df), stats.t.cdf((gap - 2.0) / error, df))
    assert found.equivalence_p(2.0) == pytest.approx(oracle, abs=1e-9)


def test_values_without_spread_say_nothing_to_a_t_test() -> None:
    """Two seeds at 0% and two at 100% have p = 0 by the formula, and prove nothing."""
    assert math.isnan(mean_of(np.ones(2)).p) and math.isnan(mean_of(np.array([0.1 * 3, 0.3])).p)
    assert math.isnan(mean_of(np.zeros(2)).equivalence_p(0.1))
    assert math.isnan(difference_of(np.full(3, 0.3), np.full(3, 0.1)).p)


@settings(deadline=None, max_examples=10)  # the oracle collects garbage at every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_adjustments_are_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multitest.multipletests(p, method="fdr_bh")[1])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_adjustments_count_what_is_still_to_be_compared(adjust) -> None:
    """Missing ones count as the largest p there can be."""
    for p, family in (([0.01, math.nan, 0.04], 3), ([0.01, 0.02, 0.5], 5)):
        whole = [*np.nan_to_num(p, nan=1.0), *[1.0] * (family - len(p))]
        wanted = np.where(np.isnan(p), math.nan, adjust(whole)[: len(p)])
        assert adjust(p, family=family) == pytest.approx(wanted, nan_ok=True)
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
