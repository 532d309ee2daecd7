"""The mean of the arm that was picked, without the luck of the pick."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.inference.selection import corrected_best


def test_each_seed_is_read_of_the_arm_that_the_others_pick() -> None:
    """By hand: without the first seed b leads (0.5 to 0.3), without the second or the third a does."""
    a, b = np.array([0.9, 0.3, 0.3]), np.array([0.1, 0.5, 0.5])
    assert corrected_best([a, b]) == pytest.approx((0.1 + 0.3 + 0.3) / 3)
    assert corrected_best([-a, -b], maximise=False) == pytest.approx(-(0.1 + 0.3 + 0.3) / 3)


def test_what_is_shown_is_read_of_the_arm_that_the_objective_picks() -> None:
    """c is the highest on test alone, and is never picked."""
    val = [np.array([0.9, 0.8, 0.9]), np.array([0.1, 0.2, 0.1]), np.array([0.3, 0.3, 0.3])]
    test = [np.array([0.5, 0.6, 0.4]), np.array([0.1, 0.1, 0.1]), np.array([0.9, 0.9, 0.9])]
    assert corrected_best(val, test) == pytest.approx(0.5)


def test_over_equal_arms_the_correction_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    found = [corrected_best(list(rng.normal(size=(8, 6)))) for _ in range(400)]
    highest = [rng.normal(size=(8, 6)).mean(axis=1).max() for _ in range(400)]
    assert np.mean([value for value in found if value is not None]) == pytest.approx(0, abs=0.06)
    assert np.mean(highest) > 0.4


def test_one_arm_with_two_values_has_no_other_to_be_picked_from() -> None:
    assert corrected_best([np.array([0.1, 0.2]), np.array([0.3])]) is None
