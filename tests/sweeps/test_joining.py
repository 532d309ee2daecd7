"""What a launch leaves behind when it cannot go on after it has joined a cluster, or has not all on disk."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps import running
from sweeps.execute import cluster
from sweeps.launch import launch
from sweeps.observe.summary import Failures
from sweeps.options import LaunchOptions
from sweeps.plan.resources import ClusterResources, Node
from sweeps.record.state import read_state
from sweeps.space.errors import SpecError
from tests.sweeps.decide.test_controller import controller
from tests.sweeps.spaces import toy_plan, write_space

SMALL = ClusterResources((Node(0.5, 0, "id", "small"),))


def test_a_launch_that_is_refused_or_told_to_end_leaves_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[bool] = []

    def connect(address: str, count_gpus: bool) -> ClusterResources:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as Ray does
        return SMALL

    def check_fits(check: Callable[..., None]) -> Callable[..., None]:
        def told_to_end(*given: object) -> None:
            signal.raise_signal(signal.SIGINT)
            check(*given)

        return told_to_end

    monkeypatch.setattr(cluster, "connect", connect)
    monkeypatch.setattr(cluster, "disconnect", lambda: left.append(True))
    monkeypatch.setattr(running, "check_fits", check_fits(running.check_fits))
    options = LaunchOptions(write_space(tmp_path), storage=str(tmp_path / "results"), address="here:1")
    with pytest.raises(SpecError, match="does not fit on the cluster at here:1"):
        launch(options)
    assert left == [True] and not (tmp_path / "results" / "toy").exists()


def test_after_an_error_the_journal_tells_of_the_sweep_and_not_what_it_has_lost(tmp_path: Path) -> None:
    made = controller(toy_plan(tmp_path), tmp_path)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    made.started("b-d0-s1")
    journal.write_bytes(whole)  # as after a sync that failed
    failures = Failures()
    assert running._recorded(made, tmp_path, failures) is made.state
    failures.texts.append("Input/output error")
    assert running._recorded(made, tmp_path, failures) == read_state(journal)
    assert not read_state(journal).trials["b-d0-s1"].attempts
