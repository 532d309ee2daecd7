"""The smallest detectable difference, against closed forms, statsmodels, and simulations of the tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from analysis.inference.intervals import difference_of, mean_of
from analysis.inference.power import detectable, seeds_for_equivalence, seeds_needed_for
from analysis.inference.significance import Pairing, Test, seeds_needed
from tests.analysis.inference.oracles import unpaired_power

FAMILIES = [1, 3, 6]

SIGN_FLIP: tuple[Test, Pairing] = ("permutation", "paired")


@pytest.mark.parametrize("n", [5, 8, 20, 100])
@pytest.mark.parametrize("comparisons", FAMILIES)
def test_of_the_t_tests_it_is_what_the_libraries_say(n: int, comparisons: int) -> None:
    alpha = 0.05 / comparisons
    paired = detectable(n, 1.0, comparisons, "t", "paired")
    assert TTestPower().power(paired, n, alpha) == pytest.approx(0.8, abs=1e-3)
    unpaired = detectable(n, math.sqrt(2.0), comparisons, "t", "unpaired")  # two arms of SD 1
    assert unpaired_power(unpaired, n, alpha) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("comparisons", FAMILIES)
@pytest.mark.parametrize("n", [2, 3])
def test_few_pairs_which_statsmodels_has_no_number_for(n: int, comparisons: int) -> None:
    noise = np.random.default_rng(0).standard_normal((20_000, n))
    p = stats.ttest_1samp(noise + detectable(n, 1.0, comparisons, "t", "paired"), 0.0, axis=1).pvalue
    assert np.mean(p <= 0.05 / comparisons) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("n", "comparisons"), [(6, 1), (8, 6), (9, 12)])
def test_where_all_signs_must_agree_it_has_a_closed_form(n: int, comparisons: int) -> None:
    """All n differences of one sign: power is Phi(d)^n, but for the other sign's vanishing chance."""
    assert 2.0 ** (2 - n) > 0.05 / comparisons >= 2.0 ** (1 - n)
    exact = stats.norm.ppf(0.8 ** (1 / n))
    assert detectable(n, 1.0, comparisons, *SIGN_FLIP) == pytest.approx(exact, rel=0.025)


@pytest.mark.parametrize(
    ("n", "comparisons", "pairing"),
    [(7, 1, "paired"), (8, 3, "paired"), (10, 3, "paired"), (11, 3, "paired"), (12, 6, "paired"),
     (4, 1, "unpaired"), (5, 3, "unpaired"), (6, 3, "unpaired"), (7, 6, "unpaired")],
)  # fmt: skip
def test_the_permutation_test_finds_it_in_four_of_five(n: int, comparisons: int, pairing: str) -> None:
    """scipy's exact tests on fresh data, of which a share of 0.8 must be significant."""
    difference = detectable(n, math.sqrt(2.0), comparisons, "permutation", pairing)
    rng, repeats = np.random.default_rng(1), 1500
    one = rng.standard_normal((repeats, n)) + difference
    other = rng.standard_normal((repeats, n))
    kind = {"paired": "samples", "unpaired": "independent"}[pairing]
    p = stats.permutation_test(
        (one, other), _distance, permutation_type=kind, vectorized=True, n_resamples=np.inf, axis=1, batch=50
    ).pvalue
    assert np.mean(p <= 0.05 / comparisons) == pytest.approx(0.8, abs=3.5 * math.sqrt(0.16 / repeats))


def _distance(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
    distance: np.ndarray = np.mean(one, axis=axis) - np.mean(other, axis=axis)
    return distance


@pytest.mark.parametrize(
    ("pairing", "fewest"), [("paired", {1: 6, 3: 7, 5: 8, 6: 8}), ("unpaired", {1: 4, 3: 5, 5: 5, 7: 6})]
)
def test_below_the_fewest_seeds_nothing_can_be_found(pairing: str, fewest: dict[int, int]) -> None:
    for comparisons, n in fewest.items():
        assert seeds_needed(comparisons, "permutation", pairing) == n
        assert math.isinf(detectable(n - 1, 1.0, comparisons, "permutation", pairing))
        assert math.isfinite(detectable(n, 1.0, comparisons, "permutation", pairing))
    assert math.isinf(detectable(1, 1.0, 1, "t", "paired"))


@pytest.mark.parametrize("test", ["permutation", "t"])
@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_so_many_seeds_find_it_and_one_fewer_do_not(test: str, pairing: str) -> None:
    for difference in (3.0, 1.5, 0.5, 0.2):
        n = seeds_needed_for(difference, 1.0, 3, test, pairing)
        assert n is not None
        assert detectable(n, 1.0, 3, test, pairing) <= difference
        assert detectable(n - 1, 1.0, 3, test, pairing) > difference


def test_what_no_sweep_can_find_has_no_number_of_seeds() -> None:
    assert seeds_needed_for(1e-6, 1.0, 1, *SIGN_FLIP) is None
    assert (
        seeds_needed_for(0.0, 1.0, 1, *SIGN_FLIP) is None
        and seeds_needed_for(math.nan, 1.0, 1, *SIGN_FLIP) is None
    )
    assert seeds_needed_for(0.3, 0.0, 3, *SIGN_FLIP) == 7
    assert seeds_needed_for(-0.3, 0.1, 3, *SIGN_FLIP) == seeds_needed_for(0.3, 0.1, 3, *SIGN_FLIP)


def test_it_scales_with_the_spread_and_is_the_same_each_time() -> None:
    assert detectable(8, 0.02, 3, *SIGN_FLIP) == pytest.approx(0.02 * detectable(8, 1.0, 3, *SIGN_FLIP))
    nine, eight, of_six = (detectable(n, 1.0, k, *SIGN_FLIP) for n, k in ((9, 3), (8, 3), (8, 6)))
    assert nine < eight < of_six


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
@pytest.mark.parametrize("difference", [0.0, 0.4])
def test_so_many_seeds_show_equivalence_in_four_of_five(pairing: Pairing, difference: float) -> None:
    n = seeds_for_equivalence(difference, 1.0, 1.5, 3, pairing)
    assert n is not None
    shares, rng = [], np.random.default_rng(0)
    for seeds in (n - 1, n):
        runs = rng.normal(0, math.sqrt(0.5), (2, 4_000, seeds))
        runs[0] += difference
        if pairing == "paired":
            p = [mean_of(gaps).equivalence_p(1.5) for gaps in runs[0] - runs[1]]
        else:
            p = [difference_of(a, b).equivalence_p(1.5) for a, b in zip(*runs, strict=True)]
        shares.append(np.mean(np.array(p) <= 0.05 / 3))
    assert shares[0] < 0.81 and shares[1] > 0.79


def test_nothing_shows_equivalence_of_what_is_beyond_the_margin() -> None:
    assert seeds_for_equivalence(1.5, 1.0, 1.5, 3, "paired") is None
    assert seeds_for_equivalence(0.0, 1.0, math.nan, 3, "paired") is None
    assert seeds_for_equivalence(1.49, 1.0, 1.5, 3, "paired") is None  # more than MOST_SEEDS
