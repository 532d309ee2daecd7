"""What holds for every scheduler: one that is in the table is tested by being there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.schedulers.registry import SCHEDULERS
from tests.sweeps.schedulers.pools import STOPPING, diverge, judge_of, report, run


@pytest.mark.parametrize("kind", SCHEDULERS)
class TestEveryScheduler:
    def test_one_member_alone_is_never_stopped(self, kind: str) -> None:
        assert run(judge_of(kind), {"a": [0.0] * 10}) == set()

    def test_ties_stop_nobody(self, kind: str) -> None:
        assert run(judge_of(kind), {name: [0.5] * 10 for name in "abcdefgh"}) == set()

    def test_rungs_rise_and_lie_below_the_horizon(self, kind: str) -> None:
        rungs = judge_of(kind).scheduler.rungs()
        assert rungs == sorted(set(rungs))
        assert all(10 <= rung < 100 for rung in rungs)

    @pytest.mark.parametrize("max_t", [10.5, 20, 99, 1000])
    def test_their_number_is_known_beforehand(self, kind: str, max_t: float) -> None:
        scheduler = judge_of(kind, max_t=max_t).scheduler
        assert abs(len(scheduler.rungs()) - scheduler.number_of_rungs()) <= 1

    def test_hearing_a_report_twice_changes_nothing(self, kind: str) -> None:
        once, twice = judge_of(kind), judge_of(kind)
        for name, value in (("a", 0.9), ("b", 0.1), ("c", 0.5), ("d", 0.3), ("e", 0.05)):
            metrics = {"samples": 10, "acc": value}
            report(once, "p", name, metrics)
            report(twice, "p", name, metrics)
            assert report(twice, "p", name, metrics) == []
        assert once.stopped == twice.stopped

    def test_nothing_happens_before_the_first_rung(self, kind: str) -> None:
        judge = judge_of(kind)
        for name, value in (("a", 0.9), ("b", 0.1), ("c", 0.5), ("d", 0.0)):
            assert report(judge, "p", name, {"samples": 9, "acc": value}) == []

    def test_pools_do_not_see_each_other(self, kind: str) -> None:
        judge = judge_of(kind)
        for index in range(6):
            name = f"m{index}"
            report(judge, f"pool{index}", name, {"samples": 50, "acc": -index})
        assert judge.stopped == {}

    def test_every_stop_says_where_and_why(self, kind: str) -> None:
        judge = judge_of(kind)
        run(
            judge,
            {
                name: [value] * 10
                for name, value in zip("abcdef", (0.9, 0.8, 0.7, 0.2, 0.1, 0.0), strict=True)
            },
        )
        for decision in judge.stopped.values():
            assert decision.action == "stop"
            assert decision.cutoff is not None and decision.value < decision.cutoff
            assert f"{decision.rung:g}" in decision.why

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
    @settings(max_examples=40, deadline=None)
    def test_the_best_constant_curve_survives(self, kind: str, values: list[float]) -> None:
        curves = {f"m{index}": [value] * 10 for index, value in enumerate(values)}
        stopped = run(judge_of(kind), curves)
        assert max(range(len(values)), key=values.__getitem__) not in {int(name[1:]) for name in stopped}

    def test_min_mode_mirrors_max_mode(self, kind: str) -> None:
        values = {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.3, "e": 0.7}
        up = run(judge_of(kind), {name: [value] * 10 for name, value in values.items()})
        down = run(judge_of(kind, mode="min"), {name: [-value] * 10 for name, value in values.items()})
        assert up == down


@pytest.mark.parametrize("kind", STOPPING)
class TestEverySchedulerThatStops:
    def test_the_worst_of_many_is_stopped(self, kind: str) -> None:
        curves = {name: [value] * 10 for name, value in zip("abcde", (0.9, 0.8, 0.7, 0.6, 0.1), strict=True)}
        assert "e" in run(judge_of(kind), curves)

    def test_nan_is_the_worst_value(self, kind: str) -> None:
        curves = {name: [value] * 10 for name, value in zip("abcd", (0.9, 0.8, 0.7, 0.6), strict=True)}
        assert "x" in run(judge_of(kind), {**curves, "x": [math.nan] * 10})

    def test_a_diverged_member_counts_as_the_worst_for_those_that_come_later(self, kind: str) -> None:
        judge = judge_of(kind)
        for name in "abcd":
            diverge(judge, "p", name)
        report(judge, "p", "late", {"samples": 10, "acc": 0.01})
        assert "late" not in judge.stopped

    def test_a_member_waits_for_its_last_seed_and_is_judged_by_the_mean(self, kind: str) -> None:
        judge = judge_of(kind)
        run(judge, {name: [value] * 10 for name, value in zip("abcd", (0.5, 0.5, 0.5, 0.5), strict=True)})
        seeds = ["x1", "x2"]
        assert report(judge, "pool", "x1", {"samples": 10, "acc": 0.0}, "x", seeds) == []
        assert "x" not in judge.stopped  # the lucky seed is still on its way
        report(judge, "pool", "x2", {"samples": 10, "acc": 1.2}, "x", seeds)  # mean 0.6
        assert "x" not in judge.stopped
        report(judge, "pool", "y1", {"samples": 10, "acc": 0.0}, "y", ["y1", "y2"])
        report(judge, "pool", "y2", {"samples": 10, "acc": 0.2}, "y", ["y1", "y2"])  # mean 0.1
        assert "y" in judge.stopped

    def test_a_pool_loses_one_from_as_many_members_on_as_it_says(self, kind: str) -> None:
        needed = judge_of(kind).scheduler.needed()
        for members in range(1, 8):
            judge = judge_of(kind)
            for rung in judge.scheduler.rungs():  # each member is worse than those before it, all the way
                for member in map(str, range(members)):
                    report(judge, "pool", member, {"samples": rung, "acc": -float(member)})
            assert bool(judge.stopped) == (members >= needed)

    def test_a_report_that_jumps_over_rungs_counts_at_the_highest_alone(self, kind: str) -> None:
        judge = judge_of(kind)
        rungs = judge.scheduler.rungs()
        run(judge, {name: [0.5] * 9 for name in "abcd"})
        first, last = (len(judge._pools["pool"].values[rung]) for rung in (rungs[0], rungs[-1]))
        report(judge, "pool", "late", {"samples": 99, "acc": 0.9})
        report(judge, "pool", "late", {"samples": rungs[0], "acc": 0.0})  # an earlier one, out of order
        values = judge._pools["pool"].values
        assert values[rungs[-1]]["late"] == 0.9
        if len(rungs) > 1:
            assert len(values[rungs[0]]) == first and "late" not in values[rungs[0]]
        assert len(values[rungs[-1]]) == last + 1 and "late" not in judge.stopped
