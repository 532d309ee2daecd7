"""The levels of looks against simulated null paths; the e-process against its integral."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from analysis.inference.sequential import PRIOR, Anytime, Schedule, auto_looks, schedule_of

FIVE = Schedule((3, 4, 5, 6, 8))


@pytest.mark.parametrize(
    ("seeds", "looks"),
    [(1, ()), (3, ()), (4, (3, 4)), (5, (3, 4, 5)), (6, (3, 4, 5, 6)), (8, (3, 4, 5, 6, 8)),
     (10, (3, 4, 5, 6, 8, 10)), (16, (3, 4, 5, 6, 8, 10, 12, 15, 16))],
)  # fmt: skip
def test_looks_of_so_many_seeds(seeds: int, looks: tuple[int, ...]) -> None:
    assert auto_looks(seeds) == looks


@given(st.integers(4, 200))
def test_looks_rise_to_the_number_of_seeds(seeds: int) -> None:
    looks = auto_looks(seeds)
    assert looks[0] == 3 and looks[-1] == seeds and list(looks) == sorted(set(looks))


def null_p(paths: int, pairs: int) -> np.ndarray:
    """[paths, pairs + 1]: the paired t-test's p after so many pairs without a difference."""
    x = np.random.default_rng(0).standard_normal((paths, pairs))
    p = np.ones((paths, pairs + 1))
    for n in range(2, pairs + 1):
        p[:, n] = stats.ttest_1samp(x[:, :n], 0, axis=1).pvalue
    return p


@pytest.mark.parametrize("looks", [(3, 4), (3, 4, 5), (3, 4, 5, 6, 8), (4, 12)])
@pytest.mark.parametrize("alpha", [0.05, 0.0125, 0.004])
def test_all_looks_together_reject_at_the_level(looks: tuple[int, ...], alpha: float) -> None:
    paths, schedule = 200_000, Schedule(looks)
    p = null_p(paths, looks[-1])
    hit = np.any([p[:, n] <= schedule.level(place, alpha) for place, n in enumerate(looks)], axis=0)
    assert abs(hit.mean() - alpha) < 4 * math.sqrt(alpha / paths)
    early = np.any([p[:, n] <= schedule.level(place, alpha) for place, n in enumerate(looks[:-1])], axis=0)
    assert abs(early.mean() - alpha / 10) < 4 * math.sqrt(alpha / 10 / paths)


@given(st.integers(0, 4), st.floats(1e-6, 0.5))
def test_p_is_the_level_at_which_a_look_rejects(look: int, alpha: float) -> None:
    assert float(FIVE.p(look, FIVE.level(look, alpha))) == pytest.approx(alpha, rel=1e-6)
    assert float(FIVE.one_sided_p(look, FIVE.one_sided_level(look, alpha))) == pytest.approx(alpha, rel=1e-6)


def test_one_look_is_an_ordinary_test() -> None:
    one = Schedule((8,))
    assert one.level(0, 0.04) == one.one_sided_level(0, 0.04) == 0.04
    assert list(one.p(0, [0.3, 0.01])) == [0.3, 0.01] and math.isnan(float(one.p(0, math.nan)))


def test_p_never_falls_with_the_nominal_p() -> None:
    nominal = np.geomspace(1e-11, 1, 500)
    for look in range(5):
        assert (np.diff(FIVE.p(look, nominal)) >= 0).all()
    assert math.isnan(float(FIVE.p(2, math.nan))) and float(FIVE.p(2, 1.0)) == 1.0


def test_the_e_process_is_the_bayes_factor() -> None:
    process = schedule_of(range(2, 13), anytime=True)
    assert isinstance(process, Anytime)
    for n in (3, 6, 12):
        x = np.random.default_rng(n).normal(2.5, 1, n)
        t = x.mean() / (x.std(ddof=1) / math.sqrt(n))

        def weighed(effect: float, n: int = n, t: float = t) -> float:
            likelihood = stats.nct.pdf(t, n - 1, math.sqrt(n) * effect)
            return float(likelihood * stats.norm.pdf(effect, 0, math.sqrt(PRIOR)))

        inside = integrate.quad(weighed, -12, 12, limit=200)[0]
        e = inside / stats.t.pdf(t, n - 1)
        assert e > 1 and 1 / float(process.p(n - 2, stats.ttest_1samp(x, 0).pvalue)) == pytest.approx(e)


def test_an_e_process_may_be_looked_at_for_ever() -> None:
    process = schedule_of(range(2, 41), anytime=True)
    p = null_p(20_000, 40)
    ever = np.min([process.p(n - 2, p[:, n]) for n in range(2, 41)], axis=0)
    for alpha in (0.1, 0.05, 0.01):
        assert (ever <= alpha).mean() <= alpha
    assert float(process.p(5, process.level(5, 0.05))) == pytest.approx(0.05)
    assert list(process.p(0, [0.0, 1.0])) == [pytest.approx(1 / 3), 1.0]  # two pairs tell little, however far
