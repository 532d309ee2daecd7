"""Shares of a GPU, by the memory that a trial was measured to need."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.decide.controller import Controller
from sweeps.decide.placement import HEAD_ROOM, check_fits, concurrency_by_arm, larger_share, share_for
from sweeps.observe.console import Display
from sweeps.observe.progress import Tracker
from sweeps.plan.identity import resolved
from sweeps.plan.resources import Allocation, Calibration, ClusterResources, Node
from sweeps.record.journal import read_journal
from sweeps.space.errors import SpecError
from tests.sweeps.decide.test_controller import controller
from tests.sweeps.spaces import toy_plan

GB = 10**9
AUTO = {"cpu": 1, "gpu": "auto"}


@given(st.integers(1, 200 * GB), st.integers(8 * GB, 200 * GB))
def test_as_many_as_a_share_says_fit_with_head_room(peak: int, total: int) -> None:
    together = 1 / share_for(Calibration(peak_bytes=peak, total_bytes=total))
    assert together == pytest.approx(round(together))
    assert together == 1 or together * peak * HEAD_ROOM <= total * (1 + 1e-9)


@pytest.mark.parametrize(
    ("peak_gb", "share"), [(10, 1 / 6), (39, 1.0), (200, 1.0), (0.1, 1 / 16), (None, 1.0)]
)
def test_shares_of_a_gpu_of_80_gb(peak_gb: float | None, share: float) -> None:
    cost = Calibration(peak_bytes=peak_gb and int(peak_gb * GB), total_bytes=80 * GB)
    assert share_for(cost) == pytest.approx(share)


def test_a_larger_share_is_half_as_many() -> None:
    assert [larger_share(1 / n) for n in (16, 7, 3, 2, 1)] == [1 / 8, 1 / 3, 1, 1, 1]


@pytest.fixture
def auto(tmp_path: Path) -> Controller:
    return controller(toy_plan(tmp_path, resources=AUTO, ablate={"model.kind": ["a", "b"]}), tmp_path)


def test_every_arm_is_measured_once_and_a_restart_knows_it(auto: Controller, tmp_path: Path) -> None:
    assert [arm.name for arm in auto.placement.arms_to_measure()] == ["a", "b"]
    auto.placement.record_measurement("a", Calibration(1.0, 10 * GB, 80 * GB))
    assert [arm.name for arm in auto.placement.arms_to_measure()] == ["b"]
    again = controller(auto.plan, tmp_path)
    assert [arm.name for arm in again.placement.arms_to_measure()] == ["b"]
    assert again.placement.allocation("a-d0-s1") == Allocation(1, 1 / 6)
    assert again.placement.allocation("b-d0-s1") == Allocation(1, 1.0)


def test_a_trial_that_runs_out_of_memory_gets_more_twice_and_no_oftener(
    auto: Controller, tmp_path: Path
) -> None:
    auto.placement.record_measurement("a", Calibration(1.0, 5 * GB, 80 * GB))  # 13 a GPU
    trial_id, shares = "a-d0-s1", []
    for _ in range(2):
        assert auto.next_trial().trial_id == trial_id  # type: ignore[union-attr]
        auto.started(trial_id)
        assert auto.placement.retry_with_larger_share(trial_id, "CUDA out of memory")
        shares.append(auto.placement.allocation(trial_id).gpu)
    assert shares == [1 / 6, 1 / 3]
    again = controller(auto.plan, tmp_path)  # what was learnt is not lost
    again.started(trial_id)
    assert again.placement.allocation(trial_id).gpu == 1 / 3
    assert not again.placement.retry_with_larger_share(trial_id, "CUDA out of memory")
    noted = [event for event in read_journal(tmp_path / "journal.jsonl") if event["event"] == "retry"]
    assert [(event["gpu"], event["reason"]) for event in noted] == [
        (1 / 6, "CUDA out of memory"),
        (1 / 3, "CUDA out of memory"),
    ]
    assert again.placement.allocation("a-d0-s2").gpu == 1 / 13  # the others keep theirs


def test_a_whole_gpu_cannot_be_enlarged(auto: Controller) -> None:
    auto.placement.record_measurement("b", Calibration(1.0, 79 * GB, 80 * GB))
    auto.started("b-d0-s1")
    assert not auto.placement.retry_with_larger_share("b-d0-s1", "CUDA out of memory")


def test_arms_have_resources_of_their_own(tmp_path: Path) -> None:
    per_arm = [
        {"when": {"model.kind": ["b", "c"]}, "cpu": 2},
        {"when": {"model.kind": "c"}, "gpu": 0.5},
    ]
    plan = toy_plan(tmp_path, resources={"cpu": 1, "per_arm": per_arm})
    assert [(arm.cpu, arm.gpu) for arm in plan.arms] == [(1, 0), (2, 0), (2, 0.5)]
    assert concurrency_by_arm(plan, None, ClusterResources((Node(8, 2),))) == {"a": 8, "b": 4, "c": 4}
    assert concurrency_by_arm(plan, 5, ClusterResources((Node(8, 2),))) == {"a": 5, "b": 4, "c": 4}
    assert concurrency_by_arm(plan, None, ClusterResources((Node(8, 0),))) == {"a": 8, "b": 4, "c": 0}
    with pytest.raises(
        SpecError, match=r"of c does not fit on this machine: resources.gpu is 0.5, but it has 0"
    ):
        check_fits(plan, ClusterResources((Node(8, 0),)), "this machine")


def test_a_trial_that_fits_on_no_single_node_is_refused_although_all_together_have_enough(
    tmp_path: Path,
) -> None:
    plan = toy_plan(tmp_path, resources={"cpu": 6, "gpu": 1})
    small = ClusterResources((Node(4, 2, "1", "one"), Node(5, 2, "2", "two"), Node(16, 0, "3", "three")))
    with pytest.raises(SpecError, match=r"cpu is 6, but the largest node, two, has 5"):
        check_fits(plan, small, "the cluster at HOST:1")
    check_fits(plan, ClusterResources((*small.nodes, Node(6, 1))), "the cluster at HOST:1")


def test_trials_that_no_node_can_run_wait_and_the_reason_is_told_once(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, resources={"cpu": 1, "per_arm": [{"when": {"model.kind": "a"}, "cpu": 4}]})
    made = controller(plan, tmp_path)
    for _ in range(2):
        made.see_nodes(ClusterResources((Node(2, 0, "1", "one"),)))
    [warning] = made.state.warnings
    assert "trials of a wait for a larger node: resources.cpu is 4" in warning == made.waits_for
    display = Display(Tracker(made.state, resolved(plan)), quiet=True, waits_for=lambda: made.waits_for)
    assert "has 2" in display.line()
    found = made.next_trial()
    assert found is not None and found.arm == "b"  # what fits goes first
    made.see_nodes(ClusterResources((Node(2, 0, "1", "one"), Node(4, 0, "2", "two"))))
    found = made.next_trial()
    assert found is not None and found.arm == "a" and not made.waits_for
