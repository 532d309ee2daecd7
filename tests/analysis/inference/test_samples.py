"""Tests, intervals and lost runs of two arms, against scipy and by what they promise each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.rule import Rule
from analysis.inference.samples import Pair, Samples
from analysis.inference.sequential import Schedule
from tests.analysis.inference.oracles import welch

NAN = math.nan
values = st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=2, max_size=7)


def pair(a: list[float], b: list[float], **rule: object) -> Pair:
    limits = rule.pop("limits", (-math.inf, math.inf))
    maximise = bool(rule.pop("maximise", True))
    return Pair(dict(enumerate(a)), dict(enumerate(b)), Rule(**rule), maximise, limits)  # type: ignore[arg-type]


def test_t_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 8), rng.normal(0, 3, 6)
    found, (p, _, *ends) = Samples(a, b, "t", "unpaired"), welch(a, b, 0.98)
    assert found.p == pytest.approx(p) and found.interval(0.02) == pytest.approx(tuple(ends))
    found, oracle = Samples(a[:6], b, "t", "paired"), stats.ttest_rel(a[:6], b)
    assert found.p == pytest.approx(oracle.pvalue)
    assert found.interval(0.05) == pytest.approx(tuple(oracle.confidence_interval(0.95)))


@settings(max_examples=60, deadline=None)
@given(values, values, st.sampled_from(["t", "permutation"]), st.sampled_from(["paired", "unpaired"]),
       st.sampled_from([0.02, 0.1, 0.3]))  # fmt: skip
def test_an_interval_leaves_out_0_where_the_test_rejects(
    a: list[float], b: list[float], test: str, pairing: str, level: float
) -> None:
    n = min(len(a), len(b))
    a, b = (a[:n], b[:n]) if pairing == "paired" else (a, b)
    found = Samples(np.array(a), np.array(b), test, pairing)  # type: ignore[arg-type]
    low, high = found.interval(level)
    if not math.isnan(low):
        assert low <= found.diff <= high
        assert (not low <= 0 <= high) == (found.p <= level)


def test_without_spread_the_exact_test_decides() -> None:
    solved, failed = np.ones(8), np.zeros(8)
    paired, unpaired = (Samples(solved, failed, "t", way) for way in ("paired", "unpaired"))
    assert paired.p == 2.0**-7 and unpaired.p == pytest.approx(2 / math.comb(16, 8))
    assert all(map(math.isnan, paired.interval(0.05)))
    assert Samples(solved, solved, "t", "paired").p == 1.0
    assert Samples(solved, solved, "t", "paired").equivalence_p(0.01) == 2.0**-8
    assert paired.equivalence_p(0.5) == 1.0


@given(
    st.lists(st.floats(-1, 1), min_size=4, max_size=8, unique=True), st.floats(0.1, 3), st.floats(0.001, 0.2)
)
def test_the_equivalence_interval_lies_within_the_margin_where_both_tests_reject(
    gaps: list[float], margin: float, level: float
) -> None:
    found = Samples(np.array(gaps), np.zeros(len(gaps)), "t", "paired")
    if found.estimate is not None:
        low, high = found.equivalence_interval(level)
        assert low <= 0 <= high
        assert (-margin <= low and high <= margin) == (found.equivalence_p(margin) <= level)


def test_diverged_runs_must_not_make_an_arm_better() -> None:
    """Three of eight seeds diverged, five are three points better."""
    base = [0.5, 0.501, 0.499, 0.5, 0.502, 0.498, 0.5, 0.501]
    arm = [0.53, 0.531, NAN, 0.529, NAN, 0.53, 0.532, NAN]
    for pairing in ("paired", "unpaired"):
        naive = pair(arm, base, pairing=pairing, on_diverged="left_out", limits=(0.0, 1.0))
        assert naive.p < 1e-4
        for limits in ((0.0, 1.0), (-math.inf, math.inf)):
            found = pair(arm, base, pairing=pairing, limits=limits)
            assert found.p > 0.05 and found.lost == (3, 0)
            low, high = found.interval(0.05)
            assert math.isnan(low) or low <= 0 <= high


def test_a_collapse_of_the_baseline_counts_as_much() -> None:
    base = [0.5, 0.501, NAN, 0.5, NAN, 0.498, 0.5, NAN]
    arm = [0.47, 0.471, 0.469, 0.47, 0.472, 0.468, 0.47, 0.471]
    assert (
        pair(arm, base, limits=(0.0, 1.0)).p > 0.05
    )  # worse than what did not diverge, better than the rest


def test_a_claim_may_hold_both_ways() -> None:
    base, arm = [0.1, 0.11, 0.09, 0.1, 0.12, 0.1, 0.1, 0.1], [0.9, 0.91, 0.9, 0.89, 0.9, 0.92, 0.9, NAN]
    found = pair(arm, base, limits=(0.0, 1.0))
    low, high = found.interval(0.05)
    assert found.p < 0.01 and 0 < low < found.at_worst.diff < found.diff < high
    loss = pair(
        [1 - value for value in arm], [1 - value for value in base], maximise=False, limits=(0.0, 1.0)
    )
    assert loss.p == pytest.approx(found.p)


def test_without_a_limit_diverged_runs_have_the_last_rank() -> None:
    base = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 0.98]
    arm = [3.0, 3.1, 2.9, 3.05, NAN, 3.0, 3.02, 2.98]
    found = pair(arm, base)
    ranks = stats.mannwhitneyu([3.0, 3.1, 2.9, 3.05, -9, 3.0, 3.02, 2.98], base, method="exact")
    assert ranks.pvalue / 3 < found.p < 3 * ranks.pvalue  # the same ranks, by their means
    assert pair([-value for value in arm], [-value for value in base], maximise=False).p == found.p


def test_equivalence_is_never_claimed_while_one_diverged() -> None:
    same = [0.5, 0.5001, 0.4999, 0.5, 0.5001]
    assert pair(same, same[::-1], margin=0.1).equivalence_p < 1e-6
    assert pair([*same, NAN], [*same[::-1], 0.5], margin=0.1).equivalence_p == 1.0


def test_futility_needs_four_seeds_and_no_lost_run() -> None:
    schedule, a, b = Schedule((3, 4, 8)), [0.5, 0.51, 0.49, 0.5], [0.5, 0.49, 0.51, 0.5]
    assert pair(a, b, futility=0.05).is_futile(schedule, 0.01)
    assert not pair(a[:3], b[:3], futility=0.05).is_futile(schedule, 0.01)
    assert not pair([*a, NAN], [*b, 0.5], futility=0.05).is_futile(schedule, 0.01)
    assert not pair(a, b).is_futile(schedule, 0.01)
    wide = pair(a, b, futility=0.05, margin=0.05)  # on its way to equivalence
    assert not wide.is_futile(schedule, 0.01)
    narrow = replace(wide, rule=replace(wide.rule, margin=0.008))
    assert narrow.is_futile(schedule, 0.01)
