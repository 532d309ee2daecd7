"""Numbers as text."""

from __future__ import annotations

import math

import pytest

from analysis.format import NO_UNIT, PERCENT, SHARE, duration, few, p_text, si, title_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (999_999, "1M"),
        (6_829_058, "6.83M"),
        (2.5e13, "25T"),
        (math.nan, "–"),
    ],
)
def test_si(value: float, text: str) -> None:
    assert si(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.34, "12.3 s"), (59.9, "59.9 s"), (75, "1 min 15 s"), (7260, "2 h 1 min"), (math.nan, "–")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_share_is_shown_in_percent_and_its_difference_in_points() -> None:
    assert SHARE.text(0.8741) == "87.4" and SHARE.text(-0.0123, sign=True) == "−1.2"
    assert title_of("val/exact_accuracy", SHARE) == "val exact accuracy (%)" and SHARE.difference == "points"
    assert SHARE.limits == (0.0, 1.0)


def test_a_percentage_is_shown_as_it_is() -> None:
    assert PERCENT.text(92.25) == "92.2" and PERCENT.text(-1.26, sign=True) == "−1.3"
    assert title_of("val/accuracy", PERCENT) == "val accuracy (%)" and PERCENT.difference == "points"
    assert PERCENT.limits == (0.0, 100.0)


def test_without_a_unit_there_are_four_digits_and_no_limits() -> None:
    assert NO_UNIT.text(0.123456) == "0.1235" and title_of("val/accuracy", NO_UNIT) == "val accuracy"
    assert NO_UNIT.limits == (-math.inf, math.inf) and NO_UNIT.difference == ""


def test_p_has_no_false_zero() -> None:
    assert [p_text(p) for p in (0.0625, 0.00001, 1.0, math.nan)] == ["0.062", "< 0.001", "1", "–"]


def test_of_many_the_first_few_are_named() -> None:
    assert few(list("abc"), 2) == "a, b and c"
    assert few(list("abcd"), 2) == "a, b and 2 more"
