"""What is asked of a node before it gets trials."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.execute.preflight import Preflight, expected, problem_of
from sweeps.plan.checks import data_hash
from sweeps.plan.resources import ClusterResources, Node
from sweeps.plan.trainer import import_trainer
from sweeps.space.errors import SpecError
from tests.sweeps.spaces import toy_plan
from trm.data.sudoku.__main__ import main

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


def puzzles(folder: Path) -> dict[str, Any]:
    """A config of TRM's trainer whose puzzles are in two files in the folder."""
    main(["prepare", "--size", "4", "--format", "csv", "--out", str(folder)])
    files = {name: str(folder / f"{name}.csv") for name in ("train", "test")}
    return {"data": {"task": "sudoku", "source": "csv", "size": 4, **files}}


def test_a_node_on_which_the_data_are_not_there_or_others_is_refused(tmp_path: Path) -> None:
    trainer = import_trainer("trm.trainer:train")
    config = puzzles(tmp_path)
    data = data_hash(trainer, trainer.config_model.model_validate(config))
    expects = replace(expected(trainer.name, str(tmp_path)), configs=(config,), data=data)
    assert data and problem_of(expects, 0) == ""
    lines = (tmp_path / "train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "train.csv").write_text("".join(lines[:-1]))
    assert "not those of the launching machine" in problem_of(expects, 0)
    (tmp_path / "train.csv").unlink()
    problem = problem_of(expects, 0)
    assert (
        problem.startswith("DataError: ") and str(tmp_path / "train.csv") in problem and "\n" not in problem
    )


def test_a_node_on_which_the_data_cannot_be_read_in_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr("tests.sweeps.sick_trainer.check", lambda config: hangs.wait(60))
    monkeypatch.setattr("sweeps.execute.preflight.DATA_S", 0.1)
    expects = replace(expected(TRAINER, str(tmp_path)), configs=({},), data="of the data")
    try:
        assert "check(config) has not ended after 0.1 s" in problem_of(expects, 0)
    finally:
        hangs.set()


def test_each_data_of_the_plan_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = SimpleNamespace(get_node_id=lambda: "driver")
    monkeypatch.setattr("ray.get_runtime_context", lambda: driver)
    base = {"data": {"seed": 0}}
    changes = {"trainer": "tests.sweeps.seeded_trainer:train", "base": base, "seed_keys": ["data.seed"]}
    plan = toy_plan(tmp_path, **changes, seeds=[1, 2], ablate={"model.kind": ["a", "b"]})
    asked = Preflight(plan, str(tmp_path), "of the data")._expects
    assert [config["data"]["seed"] for config in asked.configs] == [1, 2] and asked.data == "of the data"


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
