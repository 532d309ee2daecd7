"""Numbers as text."""

from __future__ import annotations

import math

import pytest

from analysis.format import duration, few, p_text, si, title_of, unit_of


@pytest.mark.parametrize("metric", ["val/exact_accuracy", "test/solved_then_lost_at_128"])
def test_shares_of_rows_are_shown_in_percent(metric: str) -> None:
    assert unit_of(metric).text(0.125) == "12.5" and title_of(metric).endswith("(%)")


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


def test_accuracy_is_percent_and_its_difference_points() -> None:
    unit = unit_of("val/exact_accuracy")
    assert unit.text(0.8741) == "87.4" and unit.text(-0.0123, sign=True) == "−1.2"
    assert title_of("val/exact_accuracy") == "val exact accuracy (%)" and unit.difference == "points"
    assert unit.limits == (0.0, 1.0) and unit_of("train/loss").limits == (-math.inf, math.inf)
    assert unit_of("train/loss").text(0.123456) == "0.1235" and title_of("train/loss") == "train loss"


def test_p_has_no_false_zero() -> None:
    assert [p_text(p) for p in (0.0625, 0.00001, 1.0, math.nan)] == ["0.062", "< 0.001", "1", "–"]


def test_of_many_the_first_few_are_named() -> None:
    assert few(list("abc"), 2) == "a, b and c"
    assert few(list("abcd"), 2) == "a, b and 2 more"
