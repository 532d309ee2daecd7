"""Families of comparisons at a look."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.inference.decision import BETTER, EQUIVALENT, TOO_FEW, WORSE, Comparison, adjusted, decide
from analysis.inference.rule import Rule
from analysis.inference.samples import Pair
from analysis.inference.sequential import Schedule
from analysis.inference.significance import holm
from sweeps.space.encoding import encode

chances = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(chances)
def test_without_a_margin_it_is_holms_procedure(p: list[float]) -> None:
    assert list(adjusted(np.array(p), np.array(p))) == pytest.approx(list(holm(p)))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
def test_with_a_margin_it_is_the_closed_procedure(pairs: list[tuple[float, float]]) -> None:
    """Every intersection has at most one hypothesis of each comparison, as the two exclude each other."""
    different, equivalent = (np.array(column) for column in zip(*pairs, strict=True))
    found = adjusted(different, np.maximum(different, equivalent))
    for place in range(len(pairs)):
        worst = 0.0
        others = [index for index in range(len(pairs)) if index != place]
        for size in range(len(others) + 1):
            for chosen in itertools.combinations(others, size):
                for kinds in itertools.product((0, 1), repeat=size):
                    p = [
                        different[place],
                        *(pairs[index][kind] for index, kind in zip(chosen, kinds, strict=True)),
                    ]
                    worst = max(worst, len(p) * min(p))
        assert found[place] == pytest.approx(min(worst, 1.0))


def run(table: np.ndarray, rule: Rule, looks: tuple[int, ...], level: float = 0.04) -> list[Comparison]:
    """All looks at a table [seed, arm], the first arm the baseline."""
    arms = range(1, table.shape[1])
    rows = [Comparison(str(arm), "0") for arm in arms]
    for place, n in enumerate(looks):
        seen = [dict(enumerate(table[:n, arm])) for arm in range(table.shape[1])]
        pairs = {(str(arm), "0"): Pair(seen[arm], seen[0], rule) for arm in arms}
        rows = decide(rows, pairs, rule, place, Schedule(looks), level)
    return rows


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["paired", "unpaired"]),
    st.sampled_from([None, 0.8]),
    st.booleans(),
)
def test_interval_and_verdict_say_the_same(seed: int, pairing: str, margin: float | None, lost: bool) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(0, rng.choice([0.2, 1.0]), (8, 5)) + np.array([0, 0, 0.3, 2, -2])
    if lost:
        table[rng.random(table.shape) < 0.1] = math.nan
    for row in run(table, Rule(pairing=pairing, margin=margin, futility=0.5), (3, 4, 5, 6, 8)):  # type: ignore
        leaves_out_0 = math.isfinite(row.low) and not row.low <= 0 <= row.high
        assert leaves_out_0 == (row.verdict in (BETTER, WORSE))
        assert (row.p_adjusted <= 0.04) >= (row.verdict in (BETTER, WORSE))
        if row.verdict == EQUIVALENT:
            assert margin is not None and -margin <= row.low <= 0 <= row.high <= margin
        assert math.isnan(row.p_adjusted) or row.p <= row.p_adjusted


def test_a_closed_comparison_keeps_its_numbers() -> None:
    table = np.random.default_rng(0).normal(0, 0.1, (8, 3)) + np.array([0, 5, 0])
    first = run(table[:3], Rule(), (3,))
    early = run(table, Rule(), (3, 4, 8))
    assert early[0].verdict == BETTER and early[0].look == 1 and early[0].seeds == (0, 1, 2)
    assert first[0].diff == early[0].diff
    assert early[1].look == 3 and early[1].seeds == tuple(range(8))


def test_what_is_not_looked_at_counts_in_the_family() -> None:
    values = np.random.default_rng(1).normal(0, 1, (6, 2)) + np.array([0, 3])
    seen = [dict(enumerate(values[:, arm])) for arm in (0, 1)]
    pairs = {("1", "0"): Pair(seen[1], seen[0], Rule())}
    alone = decide([Comparison("1", "0")], pairs, Rule(), 0, Schedule((6,)), 0.04)[0]
    more = [Comparison("1", "0"), *(Comparison(str(arm), "0") for arm in range(2, 6))]
    among = decide(more, pairs, Rule(), 0, Schedule((6,)), 0.04)[0]
    assert among.p == alone.p and among.p_adjusted == pytest.approx(5 * alone.p)
    assert among.low < alone.low < alone.high < among.high


def test_too_few_values_are_said() -> None:
    table = np.array([[0.0, 9.0], [0.1, 9.1], [0.2, 9.2]])
    assert run(table, Rule(test="permutation"), (3,))[0].verdict == TOO_FEW
    assert run(table[:1], Rule(), (1,))[0].verdict == TOO_FEW
    assert run(table, Rule(), (3,))[0].verdict == BETTER


def test_a_comparison_survives_the_journal() -> None:
    row = Comparison("a", "b", (1, 2), (3,), 0.5, math.nan, 1.0, look=2, stopped=True, note="text")
    back = Comparison.read(json.loads(json.dumps(encode(asdict(row)))))
    assert str(back) == str(row)  # NaN is not itself


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100_000))
def test_a_smaller_p_that_is_not_rejected_frees_nothing(seed: int) -> None:
    """Three comparisons near the level, where Holm's step of a later one may be larger than its p."""
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 1, (8, 4)) + np.array([0, *rng.uniform(0.9, 1.4, 3)])
    for row in run(table, Rule(), (8,)):
        assert (not row.low <= 0 <= row.high) == (row.verdict in (BETTER, WORSE))
