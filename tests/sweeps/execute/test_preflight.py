"""What is asked of a node before it gets trials."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps.execute.preflight import expected, problem_of

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
