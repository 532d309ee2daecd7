"""Contrasts: for two arms the t-tests of scipy, for more arms their definition and their level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.contrasts import contrast
from analysis.inference.intervals import MIN_FOR_INTERVAL
from tests.analysis.inference.oracles import welch

pytestmark = pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # of the oracle
numbers = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
UNEQUAL = (1.3, 1.6, 6.5, 22.7)  # SDs of four cells, a ratio of 17


@st.composite
def tables(draw: st.DrawFn, arms: int) -> np.ndarray:
    """[seeds, arms], each value missing now and then."""
    seeds = draw(st.integers(2, 8))
    values = st.one_of(numbers, numbers, numbers, st.just(math.nan))
    return np.array([[draw(values) for _ in range(arms)] for _ in range(seeds)])


@given(tables(2))
def test_of_two_arms_paired_it_is_the_paired_t_test(table: np.ndarray) -> None:
    both = table[np.isfinite(table).all(axis=1)]
    gaps = both[:, 0] - both[:, 1]
    found = contrast(table, [1, -1], "paired")
    assert found.n == len(both) and found.values == pytest.approx(tuple(gaps))
    assume(len(both) > 1 and gaps.std() > 1e-6)
    oracle = stats.ttest_rel(both[:, 0], both[:, 1])
    low, high = oracle.confidence_interval()
    assert (found.p, found.df) == (pytest.approx(oracle.pvalue), oracle.df)
    assert found.t_ends(0.95) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@given(tables(2))
def test_of_two_arms_unpaired_it_is_welchs_t_test(table: np.ndarray) -> None:
    a, b = (column[np.isfinite(column)] for column in table.T)
    found = contrast(table, [1, -1], "unpaired")
    assert found.n == min(len(a), len(b)) and found.values == ()
    assume(min(len(a), len(b)) > 1 and max(a.std(), b.std()) > 1e-3)
    p, df, low, high = welch(a, b)
    assert found.p == pytest.approx(p) and found.df == pytest.approx(df)
    assert found.t_ends(0.95) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@given(
    st.lists(st.tuples(*[numbers] * 4), min_size=MIN_FOR_INTERVAL, max_size=8).map(np.array),
    st.sampled_from(["paired", "unpaired"]),
)
def test_p_and_interval_decide_alike(table: np.ndarray, pairing) -> None:
    found = contrast(table, [1, -1, -1, 1], pairing)
    assume(found.has_spread and abs(found.p - 0.05) > 1e-9)
    assert (found.p < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


@given(tables(3), st.sampled_from(["paired", "unpaired"]))
def test_an_arm_of_weight_0_takes_no_part(table: np.ndarray, pairing) -> None:
    with_it, without = contrast(table, [1, 0, -1], pairing), contrast(table[:, [0, 2]], [1, -1], pairing)
    assert repr(with_it) == repr(without)  # NaN too


def test_what_cannot_be_had_is_nan() -> None:
    none, one = np.full((3, 2), math.nan), np.array([[0.4, 0.1], [0.6, math.nan]])
    for pairing in ("paired", "unpaired"):
        lost = contrast(none, [1, -1], pairing)
        assert lost.n == 0 and math.isnan(lost.value) and math.isnan(lost.p)
        single = contrast(one, [1, -1], pairing)
        assert single.n == 1 and math.isfinite(single.value) and math.isnan(single.error)
        assert math.isnan(single.p) and math.isnan(single.interval.low)
        flat = contrast(np.tile([0.3, 0.1], (5, 1)), [1, -1], pairing)
        assert math.isnan(flat.p) and flat.interval.low == flat.interval.high == pytest.approx(0.2)
    three = contrast(np.array([[0.1], [0.2], [0.3]]), [1], "unpaired")
    assert three.values == (0.1, 0.2, 0.3) and math.isnan(three.interval.low) and three.interval.method == ""


def test_differences_that_are_only_rounding_have_no_p() -> None:
    base = np.random.default_rng(0).normal(size=(6, 1))
    additive = base + np.array([0.0, 0.1, 0.2, 0.3])
    assert math.isnan(contrast(additive, [1, -1, -1, 1], "paired").p)


def test_shapes_that_do_not_fit_are_refused() -> None:
    for table, weights in ((np.ones((3, 2)), [1]), (np.ones(3), [1]), (np.ones((3, 2)), [0, 0])):
        with pytest.raises(ValueError, match="a weight for each arm"):
            contrast(table, weights, "paired")


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_with_unequal_spread_the_level_holds(pairing) -> None:
    """2,000 null interactions of 2 x 2 cells of five seeds: 5% and three standard errors, 1.5 points."""
    rng = np.random.default_rng(5)
    p = [contrast(rng.normal(0, UNEQUAL, (5, 4)), [1, -1, -1, 1], pairing).p for _ in range(2000)]
    assert 0.03 < np.mean(np.array(p) <= 0.05) < 0.065
