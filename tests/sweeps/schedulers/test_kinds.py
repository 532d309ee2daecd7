"""What is particular to each scheduler."""

from __future__ import annotations

import random
import statistics
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from sweeps.schedulers import registry
from sweeps.schedulers.fixed import Fixed
from tests.sweeps.schedulers.pools import judge_of, report, run


def test_asha_keeps_the_best_third_of_those_that_came() -> None:
    curves = {f"m{index}": [1 - index / 10] * 10 for index in range(9)}  # each worse than the one before
    judge = judge_of("asha")
    stopped = run(judge, curves)
    # ceil(n / 3) go on: arrivals 1, then 4 and 7 find the place open only if they are among the best
    assert stopped == {f"m{index}" for index in range(1, 9)}
    assert judge.stopped["m1"].cutoff == pytest.approx(1.0)


def test_asha_rungs_are_geometric() -> None:
    assert judge_of("asha", grace_period=5, max_t=100, reduction_factor=2).scheduler.rungs() == [
        5,
        10,
        20,
        40,
        80,
    ]


def test_asha_judges_again_at_each_rung() -> None:
    judge = judge_of("asha")
    stopped = run(judge, {"slow": [0.1, 0.2, 0.9] + [0.9] * 7, "fades": [0.5, 0.5, 0.5] + [0.5] * 7})
    assert stopped == {"fades"}
    assert judge.stopped["fades"].rung == 30


def test_fixed_also_stops_an_early_arrival_that_is_overtaken() -> None:
    judge = judge_of("fixed", keep=2)
    for name, value in (("early", 0.1), ("b", 0.5), ("c", 0.4)):
        report(judge, "p", name, {"samples": 10, "acc": value})
    assert set(judge.stopped) == {"early"}


@given(st.permutations(list(range(6))))
@settings(max_examples=30, deadline=None)
def test_fixed_keeps_the_same_ones_in_every_order_of_arrival(order: list[int]) -> None:
    judge = judge_of("fixed", keep=2)
    for index in order:
        name = f"m{index}"
        report(judge, "p", name, {"samples": 10, "acc": index})
    assert set(judge.stopped) == {"m0", "m1", "m2", "m3"}


def test_median_needs_three_others() -> None:
    judge = judge_of("median")
    assert run(judge, {"a": [0.9] * 10, "b": [0.8] * 10, "c": [0.1] * 10}) == set()
    assert run(judge, {"d": [0.05] * 10}) == {"d"}


def test_a_key_that_two_kinds_have_is_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Fixed):
        kind: Literal["other"] = "other"
        keep: int = Field(2, ge=1)

    monkeypatch.setitem(registry.SCHEDULERS, "other", Other)
    with pytest.raises(TypeError, match=r"sweeps\.schedulers\.other: keep is another kind's too"):
        registry.own_keys()


@given(st.lists(st.floats(-10, 10), min_size=8, max_size=40), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_the_median_is_that_of_the_others_running_means(values: list[float], seed: int) -> None:
    """Worked out again from all values at each arrival."""
    judge, order = judge_of("median", max_t=50), random.Random(seed)
    seen: dict[str, list[float]] = {}
    for value in values:
        member = order.choice("abcdefgh")
        if member in judge.stopped or len(seen.get(member, [])) == 4:
            continue
        seen.setdefault(member, []).append(value)
        rung = len(seen[member])
        (decision,) = report(judge, "p", member, {"samples": 10 * rung, "acc": value})
        means = [
            statistics.fmean(each[:rung])
            for name, each in seen.items()
            if name != member and len(each) >= rung
        ]
        if len(means) < 3:
            assert decision.cutoff is None
            continue
        assert decision.cutoff == statistics.median(means)
        assert (decision.action == "stop") == (max(seen[member]) < decision.cutoff)
        assert decision.tied == sum(
            each[rung - 1] == value for name, each in seen.items() if name != member and len(each) >= rung
        )
