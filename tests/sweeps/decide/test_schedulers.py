"""A conformance suite over every scheduler, then what is particular to each."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.decide.schedulers import SCHEDULERS, Scheduler, build_scheduler
from sweeps.space.schema import SchedulerSpec


def scheduler(kind: str, mode: str = "max", **changes: object) -> Scheduler:
    settings = {"grace_period": 10, "max_t": 100, "reduction_factor": 3, "keep": 1, "metric": "acc"} | changes
    return build_scheduler(SchedulerSpec(kind=kind, mode=mode, **settings))


def run(policy: Scheduler, curves: dict[str, list[float]], order: list[str] | None = None) -> set[str]:
    """Feed whole curves (a value at samples 10, 20, ...) member by member; returns who was stopped."""
    for member in order or list(curves):
        for index, value in enumerate(curves[member], start=1):
            if member in policy.stopped:
                break
            policy.on_report("pool", member, [member], member, {"samples": 10 * index, "acc": value})
    return set(policy.stopped)


@pytest.mark.parametrize("kind", SCHEDULERS)
class TestEveryScheduler:
    def test_one_member_alone_is_never_stopped(self, kind: str) -> None:
        assert run(scheduler(kind), {"a": [0.0] * 10}) == set()

    def test_ties_stop_nobody(self, kind: str) -> None:
        assert run(scheduler(kind), {name: [0.5] * 10 for name in "abcdefgh"}) == set()

    def test_rungs_rise_and_lie_below_the_horizon(self, kind: str) -> None:
        rungs = scheduler(kind).rungs()
        assert rungs == sorted(set(rungs))
        assert all(10 <= rung < 100 for rung in rungs)

    def test_hearing_a_report_twice_changes_nothing(self, kind: str) -> None:
        once, twice = scheduler(kind), scheduler(kind)
        for name, value in (("a", 0.9), ("b", 0.1), ("c", 0.5), ("d", 0.3), ("e", 0.05)):
            report = {"samples": 10, "acc": value}
            once.on_report("p", name, [name], name, report)
            twice.on_report("p", name, [name], name, report)
            assert twice.on_report("p", name, [name], name, report) == []
        assert once.stopped == twice.stopped

    def test_nothing_happens_before_the_first_rung(self, kind: str) -> None:
        policy = scheduler(kind)
        for name, value in (("a", 0.9), ("b", 0.1), ("c", 0.5), ("d", 0.0)):
            assert policy.on_report("p", name, [name], name, {"samples": 9, "acc": value}) == []

    def test_pools_do_not_see_each_other(self, kind: str) -> None:
        policy = scheduler(kind)
        for index in range(6):
            name = f"m{index}"
            policy.on_report(f"pool{index}", name, [name], name, {"samples": 50, "acc": -index})
        assert policy.stopped == {}

    def test_every_stop_says_where_and_why(self, kind: str) -> None:
        policy = scheduler(kind)
        run(
            policy,
            {
                name: [value] * 10
                for name, value in zip("abcdef", (0.9, 0.8, 0.7, 0.2, 0.1, 0.0), strict=True)
            },
        )
        for decision in policy.stopped.values():
            assert decision.action == "stop"
            assert decision.cutoff is not None and decision.value < decision.cutoff
            assert f"{decision.rung:g}" in decision.why

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
    @settings(max_examples=40, deadline=None)
    def test_the_best_constant_curve_survives(self, kind: str, values: list[float]) -> None:
        curves = {f"m{index}": [value] * 10 for index, value in enumerate(values)}
        stopped = run(scheduler(kind), curves)
        assert max(range(len(values)), key=values.__getitem__) not in {int(name[1:]) for name in stopped}

    def test_min_mode_mirrors_max_mode(self, kind: str) -> None:
        values = {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.3, "e": 0.7}
        up = run(scheduler(kind), {name: [value] * 10 for name, value in values.items()})
        down = run(scheduler(kind, mode="min"), {name: [-value] * 10 for name, value in values.items()})
        assert up == down


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULERS if kind != "fifo"])
class TestEverySchedulerThatStops:
    def test_the_worst_of_many_is_stopped(self, kind: str) -> None:
        curves = {name: [value] * 10 for name, value in zip("abcde", (0.9, 0.8, 0.7, 0.6, 0.1), strict=True)}
        assert "e" in run(scheduler(kind), curves)

    def test_nan_is_the_worst_value(self, kind: str) -> None:
        curves = {name: [value] * 10 for name, value in zip("abcd", (0.9, 0.8, 0.7, 0.6), strict=True)}
        assert "x" in run(scheduler(kind), {**curves, "x": [math.nan] * 10})

    def test_a_diverged_member_counts_as_the_worst_for_those_that_come_later(self, kind: str) -> None:
        policy = scheduler(kind)
        for name in "abcd":
            policy.on_diverged("p", name, [name], name)
        policy.on_report("p", "late", ["late"], "late", {"samples": 10, "acc": 0.01})
        assert "late" not in policy.stopped

    def test_a_member_waits_for_its_last_seed_and_is_judged_by_the_mean(self, kind: str) -> None:
        policy = scheduler(kind)
        run(policy, {name: [value] * 10 for name, value in zip("abcd", (0.5, 0.5, 0.5, 0.5), strict=True)})
        seeds = ["x1", "x2"]
        assert policy.on_report("pool", "x", seeds, "x1", {"samples": 10, "acc": 0.0}) == []
        assert "x" not in policy.stopped  # the lucky seed is still on its way
        policy.on_report("pool", "x", seeds, "x2", {"samples": 10, "acc": 1.2})  # mean 0.6
        assert "x" not in policy.stopped
        policy.on_report("pool", "y", ["y1", "y2"], "y1", {"samples": 10, "acc": 0.0})
        policy.on_report("pool", "y", ["y1", "y2"], "y2", {"samples": 10, "acc": 0.2})  # mean 0.1
        assert "y" in policy.stopped


def test_asha_keeps_the_best_third_of_those_that_came() -> None:
    curves = {f"m{index}": [1 - index / 10] * 10 for index in range(9)}  # each worse than the one before
    policy = scheduler("asha")
    stopped = run(policy, curves)
    # ceil(n / 3) go on: arrivals 1, then 4 and 7 find the place open only if they are among the best
    assert stopped == {f"m{index}" for index in range(1, 9)}
    assert policy.stopped["m1"].cutoff == pytest.approx(1.0)


def test_asha_rungs_are_geometric() -> None:
    assert scheduler("asha", grace_period=5, max_t=100, reduction_factor=2).rungs() == [5, 10, 20, 40, 80]


def test_asha_judges_again_at_each_rung() -> None:
    policy = scheduler("asha")
    stopped = run(policy, {"slow": [0.1, 0.2, 0.9] + [0.9] * 7, "fades": [0.5, 0.5, 0.5] + [0.5] * 7})
    assert stopped == {"fades"}
    assert policy.stopped["fades"].rung == 30


def test_fixed_also_stops_an_early_arrival_that_is_overtaken() -> None:
    policy = scheduler("fixed", keep=2)
    for name, value in (("early", 0.1), ("b", 0.5), ("c", 0.4)):
        policy.on_report("p", name, [name], name, {"samples": 10, "acc": value})
    assert set(policy.stopped) == {"early"}


@given(st.permutations(list(range(6))))
@settings(max_examples=30, deadline=None)
def test_fixed_keeps_the_same_ones_in_every_order_of_arrival(order: list[int]) -> None:
    policy = scheduler("fixed", keep=2)
    for index in order:
        name = f"m{index}"
        policy.on_report("p", name, [name], name, {"samples": 10, "acc": index})
    assert set(policy.stopped) == {"m0", "m1", "m2", "m3"}


def test_median_needs_three_others() -> None:
    policy = scheduler("median")
    assert run(policy, {"a": [0.9] * 10, "b": [0.8] * 10, "c": [0.1] * 10}) == set()
    assert run(policy, {"d": [0.05] * 10}) == {"d"}


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULERS if kind != "fifo"])
class TestAudit:
    def curves(self) -> dict[str, list[float]]:
        return {f"m{index}": [1 - index / 50] * 10 for index in range(40)}

    def test_some_of_those_to_be_stopped_run_on_and_nobody_else_fares_otherwise(self, kind: str) -> None:
        plain, audited = scheduler(kind), scheduler(kind, audit=0.3)
        out = run(plain, self.curves())
        # What an audited member does afterwards must not matter: here it becomes the best of all.
        curves = {
            name: values[:1] + [9.0] * 9 if name in self._for_audit(audited, out) else values
            for name, values in self.curves().items()
        }
        stopped = run(audited, curves)
        assert set(audited.audited) and stopped
        assert stopped | set(audited.audited) == out
        assert 0.1 < len(audited.audited) / len(out) < 0.5

    @staticmethod
    def _for_audit(policy: Scheduler, names: set[str]) -> set[str]:
        return {name for name in names if policy._is_for_audit(name)}

    def test_the_same_salt_draws_the_same_ones(self, kind: str) -> None:
        spec = scheduler(kind, audit=0.5).spec
        one, again, other = (build_scheduler(spec, salt) for salt in ("x", "x", "y"))
        for policy in (one, again, other):
            run(policy, self.curves())
        assert set(one.audited) == set(again.audited) != set(other.audited)

    def test_a_verdict_says_audit(self, kind: str) -> None:
        policy = scheduler(kind, audit=0.99)
        decisions = []
        for name, (value, *_) in self.curves().items():
            decisions += policy.on_report("pool", name, [name], name, {"samples": 10, "acc": value})
        told = [decision.member for decision in decisions if decision.action == "audit"]
        assert told and sorted(told) == sorted(policy.audited)  # each once


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULERS if kind != "fifo"])
def test_a_member_that_has_completed_is_not_stopped_by_who_comes_after(kind: str) -> None:
    policy = scheduler(kind)
    run(policy, {"a": [0.1] * 10})
    policy.on_completed("a")
    run(policy, {name: [0.9] * 10 for name in "bcdef"})
    assert "a" not in policy.stopped
    assert all(decision.member != "a" for decision in policy.stopped.values())


def test_a_tie_is_told() -> None:
    policy = scheduler("asha")
    decisions = [
        policy.on_report("p", name, [name], name, {"samples": 10, "acc": value})[-1]
        for name, value in (("a", 0.5), ("b", 0.5), ("c", 0.4), ("d", 0.5))
    ]
    assert [decision.tied for decision in decisions] == [0, 1, 0, 2]
