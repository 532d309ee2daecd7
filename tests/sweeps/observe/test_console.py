"""The live table and the plain lines, of a sweep whose course is known."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeps.decide.controller import Controller
from sweeps.observe.console import Display
from sweeps.record.journal import Journal
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

SEARCH = {"draws_per_arm": 2, "seeds": [0], "keep": 1}


def begun(folder: Path, **changes: Any) -> Controller:
    made = Controller(toy_plan(folder, **changes), Journal(folder / "journal.jsonl"))
    made.begin()
    return made


def report(made: Controller, trial_id: str, step: int, accuracy: float) -> None:
    made.report(trial_id, {"step": step, "samples": 10 * step, "accuracy": accuracy})


def run(made: Controller, trial_id: str, accuracy: float, ending: str = "completed") -> None:
    made.started(trial_id)
    report(made, trial_id, 10, accuracy)
    made.ended(trial_id, ending)


def text(display: Display) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(display.table())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_row_an_arm_with_what_became_of_its_trials(tmp_path: Path) -> None:
    made = begun(tmp_path)
    display = Display(made, quiet=False)
    run(made, "a-d0-s1", 0.4)
    run(made, "a-d0-s2", 0.3)
    run(made, "b-d0-s1", 0.7)
    made.started("b-d0-s2")
    run(made, "c-d0-s1", 0.1, "failed")
    rows = {line.split()[0]: line.split()[1:] for line in text(display).splitlines()[1:]}
    assert rows["a"] == ["-", "2", "-", "-", "-", "0.4"]
    assert rows["b"] == ["1", "1", "-", "-", "-", "0.7"]
    assert rows["c"] == ["-", "-", "-", "1", "1", "0.1"]
    line = display.line()
    assert "toy: 1 running, 3 completed, 1 failed, 1 not started" in line
    assert "best accuracy 0.7 (b seed 1)" in line


@pytest.mark.parametrize(("unit", "value"), [("share", 0.7041), ("percent", 70.41)])
def test_a_value_is_shown_in_its_unit(tmp_path: Path, unit: str, value: float) -> None:
    made = begun(tmp_path, objective={"metric": "accuracy", "mode": "max", "unit": unit})
    display = Display(made, quiet=False)
    run(made, "a-d0-s1", value)
    assert "best accuracy 70.4% (a seed 1)" in display.line()
    assert "70.4%" in text(display)


def test_for_a_loss_the_best_is_the_lowest(tmp_path: Path) -> None:
    made = begun(tmp_path, objective={"metric": "accuracy", "mode": "min"})
    run(made, "a-d0-s1", 0.4)
    run(made, "b-d0-s1", 0.7)
    assert "best accuracy 0.4 (a seed 1)" in Display(made, quiet=False).line()


def test_the_time_left_is_that_of_the_samples_left(tmp_path: Path) -> None:
    made = begun(tmp_path)  # 6 trials of 100 samples
    display = Display(made, quiet=False)
    assert display.seconds_left(10.0) is None
    run(made, "a-d0-s1", 0.4)
    made.started("b-d0-s1")
    report(made, "b-d0-s1", 5, 0.2)
    assert display.seconds_left(30.0) == pytest.approx(30.0 * 450 / 150)


def test_the_time_left_knows_of_the_evidence_to_come(tmp_path: Path) -> None:
    made = begun(tmp_path, tune=TUNE, search=SEARCH)  # 3 arms x 2 draws, then 3 arms x 2 seeds
    display = Display(made, quiet=False)
    run(made, "a-d0-s0", 0.4)
    assert display.seconds_left(10.0) == pytest.approx(10.0 * (5 + 6))
    run(made, "a-d1-s0", 0.3)  # its evidence is planned now, and is counted once
    assert display.seconds_left(20.0) == pytest.approx(20.0 / 2 * (4 + 6))


def test_the_time_left_knows_of_draws_that_tpe_has_not_been_asked_for(tmp_path: Path) -> None:
    search = {"algorithm": "tpe", "draws_per_arm": 20, "seeds": [0], "keep": 1}
    made = begun(tmp_path, tune=TUNE, search=search, scheduler={**ASHA, "scope": "arm"})
    assert made.unplanned_trials == 3 * 20 + 3 * 2
    assert made.next_trial() is not None
    assert made.unplanned_trials == 3 * 20 - 1 + 3 * 2


def test_what_was_trained_before_a_resume_does_not_speed_up_the_clock(tmp_path: Path) -> None:
    made = begun(tmp_path)
    run(made, "a-d0-s1", 0.4)
    display = Display(made, quiet=False)
    assert display.seconds_left(5.0) is None
    run(made, "a-d0-s2", 0.4)
    assert display.seconds_left(5.0) == pytest.approx(5.0 * 4)


def test_into_a_file_go_plain_lines_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(begun(tmp_path), quiet=False):
        time.sleep(0.3)
    out = capsys.readouterr().out
    assert out.startswith("toy: 6 not started") and "\x1b" not in out


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(begun(tmp_path), quiet=True):
        time.sleep(0.1)
    assert capsys.readouterr().out == ""
