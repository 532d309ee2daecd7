"""What a launch finds in its folder, and what it does about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.plan.model import Plan
from sweeps.record.folder import FolderStatus, inspect_folder, read_resolved, refuse_other_data, write_space
from sweeps.record.journal import Journal
from sweeps.space.errors import SpecError
from tests.sweeps.decide.test_controller import play
from tests.sweeps.spaces import toy_plan


def launched(plan: Plan, folder: Path, budget: int = 10_000, ending: str = "completed") -> None:
    folder.mkdir(exist_ok=True)
    write_space(plan, folder, "data-1", extended=False)
    made = Controller(plan, Journal(folder / "journal.jsonl"))
    made.begin()
    play(made, budget=budget)
    made.finish(ending)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "toy"


def test_nothing_is_there(tmp_path: Path, folder: Path) -> None:
    plan = toy_plan(tmp_path)
    assert inspect_folder(plan, folder, resume=False, extend=False) == FolderStatus()
    for option in ("resume", "extend"):
        with pytest.raises(SpecError, match=f"--{option}: there is no sweep in"):
            inspect_folder(plan, folder, **{"resume": False, "extend": False} | {option: True})


@pytest.mark.parametrize("option", ["resume", "extend", ""])
def test_the_same_sweep_finished(tmp_path: Path, folder: Path, option: str) -> None:
    plan = toy_plan(tmp_path)
    launched(plan, folder)
    assert inspect_folder(plan, folder, resume=option == "resume", extend=option == "extend").finished


@pytest.mark.parametrize(
    ("ending", "words"),
    [("interrupted", "continue with --resume"), ("budget", "the budget was spent: raise it first")],
)
def test_the_same_sweep_unfinished(tmp_path: Path, folder: Path, ending: str, words: str) -> None:
    plan = toy_plan(tmp_path)
    launched(plan, folder, budget=15, ending=ending)
    with pytest.raises(SpecError, match=words):
        inspect_folder(plan, folder, resume=False, extend=False)
    assert inspect_folder(plan, folder, resume=True, extend=False) == FolderStatus()


def test_another_sweep(tmp_path: Path, folder: Path) -> None:
    launched(toy_plan(tmp_path), folder)
    other = toy_plan(tmp_path, base={"lr": 0.3, "max_samples": 100})
    for options in ({"resume": True, "extend": False}, {"resume": False, "extend": False}):
        with pytest.raises(SpecError, match=r"(?s)another sweep.*base.lr: 0.1 before, 0.3 now.*\nchoose"):
            inspect_folder(other, folder, **options)
    with pytest.raises(SpecError, match=r"(?s)does not only add.*base.lr: 0.1 before, 0.3 now"):
        inspect_folder(other, folder, resume=False, extend=True)


def test_one_to_add_to(tmp_path: Path, folder: Path) -> None:
    launched(toy_plan(tmp_path), folder)
    more = toy_plan(tmp_path, seeds=[1, 2, 3])
    with pytest.raises(SpecError, match="add to it with --extend"):
        inspect_folder(more, folder, resume=True, extend=False)
    assert inspect_folder(more, folder, resume=False, extend=True) == FolderStatus(extended=True)
    before = read_resolved(folder)
    write_space(more, folder, "data-1", extended=True)
    after = read_resolved(folder)
    assert (after["id"], after["created"]) == (before["id"], before["created"])  # MLflow finds its runs
    assert after["hash"] == more.hash != before["hash"]
    # A crash now: the space is the larger one, but nothing of it has begun.
    with pytest.raises(SpecError, match="continue with --resume"):
        inspect_folder(more, folder, resume=False, extend=False)
    assert inspect_folder(more, folder, resume=True, extend=False) == FolderStatus()


def test_data_may_be_added_and_not_changed(tmp_path: Path, folder: Path) -> None:
    launched(toy_plan(tmp_path), folder)
    refuse_other_data(folder, "data-1", extended=False)
    refuse_other_data(folder, "data-1 data-2", extended=True)
    cases: list[dict[str, Any]] = [
        {"data": "data-2", "extended": True},
        {"data": "data-1 data-2", "extended": False},
    ]
    for case in cases:
        with pytest.raises(SpecError, match="begun with other data"):
            refuse_other_data(folder, **case)
