"""What is asked of a node before it gets trials."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps.execute.preflight import Preflight, expected, problem_of
from sweeps.plan.resources import ClusterResources, Node
from sweeps.space.errors import SpecError

TRAINER = "tests.sweeps.sick_trainer:train"


def test_a_node_like_the_launching_machine_passes(tmp_path: Path) -> None:
    assert problem_of(expected(TRAINER, str(tmp_path / "not" / "made" / "yet")), 0) == ""
    assert problem_of(expected(TRAINER, "s3://bucket/sweeps"), 0) == ""


def test_a_node_with_other_code_or_without_the_storage_is_refused(tmp_path: Path) -> None:
    expects = expected(TRAINER, str(tmp_path))
    assert "other code" in problem_of(replace(expects, code=("0.1.0+0", expects.code[1])), 0)
    assert "mount the storage" in problem_of(replace(expects, folder="/not/mounted/here"), 0)


def test_a_node_that_cannot_import_the_trainer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expects = expected(TRAINER, str(tmp_path))
    monkeypatch.setenv("SICK_NODE", "broken")
    monkeypatch.delitem(sys.modules, "tests.sweeps.sick_trainer", raising=False)
    assert "a library is missing here" in problem_of(expects, 0)


def test_a_node_whose_gpu_is_broken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", no_gpu)
    expects = expected(TRAINER, str(tmp_path))
    assert "torch finds no GPU" in problem_of(expects, 0.5)
    assert problem_of(expects, 0) == ""


NODES = ClusterResources((Node(1, 0, "first", "host1"), Node(1, 0, "second", "host2")))


def inspecting(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> Preflight:
    """A preflight to which these nodes answer at once, and others not at all."""
    preflight = object.__new__(Preflight)
    preflight._problems = answers
    monkeypatch.setattr(Preflight, "_inspected", lambda self, nodes: len(answers))
    monkeypatch.setattr("sweeps.execute.preflight.LIMIT_S", 0.0)
    return preflight


def test_a_cluster_whose_nodes_are_busy_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight = inspecting(monkeypatch, {"first": "ImportError: no torch"})
    preflight.wait(NODES, "auto", lambda: False)
    assert preflight.passed(NODES, lambda node, why: None) == NODES.without({"second"})


def test_a_cluster_of_which_no_node_can_run_trials_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight = inspecting(monkeypatch, dict.fromkeys(("first", "second"), "ImportError: no torch"))
    with pytest.raises(SpecError, match=r"--address auto: .* host1: ImportError: no torch; mend that"):
        preflight.wait(NODES, "auto", lambda: False)


def test_a_signal_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight = inspecting(monkeypatch, {})
    monkeypatch.setattr("sweeps.execute.preflight.LIMIT_S", 60.0)
    began = time.monotonic()
    preflight.wait(NODES, "auto", lambda: True)
    assert time.monotonic() - began < 5


def test_an_error_without_a_message_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_message(task: object) -> None:
        raise RuntimeError

    def answered(tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        return tasks, []

    monkeypatch.setattr("sweeps.execute.preflight.ray", SimpleNamespace(wait=answered, get=no_message))
    preflight = object.__new__(Preflight)
    preflight._problems, preflight._tasks = {}, dict.fromkeys(("first", "second"))  # type: ignore[assignment]
    told: dict[str, str] = {}
    preflight.passed(NODES, told.__setitem__)
    assert told == dict.fromkeys(("first", "second"), "RuntimeError")
