"""Trainers that fail in every way, on real Ray: what the sweep is told of each, and that others go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sweeps.record.journal import read_journal
from tests.sweeps.launches import Done, run
from tests.sweeps.spaces import write_space

ACTS = ["nothing", "raises", "warns", "crashes", "hangs", "hangs in C", "misuses", "prints"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """One trial of each, one after the other: a worker is used again where it can be."""
    folder = tmp_path_factory.mktemp("unruly")
    space = write_space(
        folder,
        trainer="tests.sweeps.execute.unruly_trainer:train",
        base={},
        ablate={"does": ACTS},
        seeds=[1],
        max_failures=0,
        max_silence_s=2,
    )
    return folder / "results" / "toy", run(folder, space, "--max-concurrent", 1)


@pytest.fixture(scope="module")
def ends(swept: tuple[Path, Done]) -> dict[str, dict[str, Any]]:
    assert "Traceback" not in swept[1].stdout + swept[1].stderr
    events = read_journal(swept[0] / "journal.jsonl")
    found = {event["trial_id"]: event for event in events if event["event"] == "end"}
    return {act: found[f"does={act.replace(' ', '_')}-d0-s1"] for act in ACTS}


def log(swept: tuple[Path, Done], act: str) -> str:
    return (swept[0] / "logs" / f"does={act.replace(' ', '_')}-d0-s1.log").read_text()


def test_only_those_fail_that_do_something_wrong(ends: dict[str, dict[str, Any]]) -> None:
    completed = {act for act, end in ends.items() if end["status"] == "completed"}
    assert completed == {"nothing", "warns", "prints"}
    assert all(end["status"] == "failed" for act, end in ends.items() if act not in completed)


def test_a_failure_is_told_in_the_trainers_words(ends: dict[str, dict[str, Any]]) -> None:
    assert ends["raises"]["reason"] == "TwoArguments: code 7\nthe second line"
    assert ends["raises"]["log"].endswith("the second line") and "Traceback" in ends["raises"]["log"]
    assert "accuracy must be a number; got '12.5' (str)" in ends["misuses"]["reason"]


def test_a_silent_trainer_is_ended_whatever_it_does(
    ends: dict[str, dict[str, Any]], swept: tuple[Path, Done]
) -> None:
    for act in ("hangs", "hangs in C"):
        assert ends[act]["reason"] == "no report for 2 s (max_silence_s)"
        assert "cause" not in ends[act]  # not the node's fault
        assert "unruly_trainer.py" in ends[act]["log"]


def test_a_process_that_died_leaves_its_last_words(ends: dict[str, dict[str, Any]]) -> None:
    end = ends["crashes"]
    assert "cause" not in end  # the trainer crashed; the node did not
    assert end["reason"] == "the worker's process died: Fatal Python error: Segmentation fault"
    assert "unruly_trainer.py" in end["log"]  # where


def test_no_trial_runs_in_a_process_in_which_one_has_failed(
    ends: dict[str, dict[str, Any]], swept: tuple[Path, Done]
) -> None:
    processes = {act: re.findall("process ([0-9]+)", log(swept, act)) for act in ACTS}
    in_order = [process for act in ACTS for process in processes[act]]
    assert len(in_order) == len(ACTS)  # one attempt each
    for act, later in zip(ACTS, in_order[1:], strict=False):
        assert (processes[act] == [later]) == (ends[act]["status"] == "completed")


def test_no_process_is_left(swept: tuple[Path, Done]) -> None:
    for act in ACTS:
        for number in re.findall("process ([0-9]+)", log(swept, act)):
            assert not Path("/proc", number).exists()
