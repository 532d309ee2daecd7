"""The live table and the plain lines, of a sweep whose course is known."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from rich.cells import cell_len
from rich.console import Console

from sweeps.decide.controller import Controller
from sweeps.observe.console import Display
from sweeps.observe.progress import Tracker
from sweeps.observe.progress_text import elided, table
from sweeps.plan.identity import resolved
from sweeps.record.journal import Journal
from tests.conftest import ROOT
from tests.sweeps.spaces import TUNE, toy_plan

SEARCH = {"draws_per_arm": 2, "seeds": [0], "keep": 1}


def begun(folder: Path, **changes: Any) -> tuple[Controller, Display]:
    journal = Journal(folder / "journal.jsonl")
    made = Controller(toy_plan(folder, **changes), journal)
    tracker = Tracker(made.state, resolved(made.plan))
    journal.listeners.append(tracker.apply)
    made.begin()
    return made, Display(tracker, quiet=False)


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
    made, display = begun(tmp_path)
    run(made, "a-d0-s1", 0.4)
    run(made, "a-d0-s2", 0.3)
    run(made, "b-d0-s1", 0.7)
    made.started("b-d0-s2")
    run(made, "c-d0-s1", 0.1, "failed")
    rows = {line.split()[0]: line.split()[1:] for line in text(display).splitlines()[1:]}
    assert rows["a"] == ["-", "2", "-", "-", "-", "0.35"]
    assert rows["b"] == ["1", "1", "-", "-", "-", "0.7"]
    assert rows["c"] == ["-", "-", "-", "1", "1", "-"]
    line = display.line()
    assert "toy: 1 running, 3 completed, 1 failed, 1 not started" in line
    assert "best accuracy 0.7 (b)" in line


@pytest.mark.parametrize(("unit", "value"), [("share", 0.7041), ("percent", 70.41)])
def test_a_value_is_shown_in_its_unit(tmp_path: Path, unit: str, value: float) -> None:
    made, display = begun(tmp_path, objective={"metric": "accuracy", "mode": "max", "unit": unit})
    run(made, "a-d0-s1", value)
    assert "best accuracy 70.4% (a)" in display.line()
    assert "70.4%" in text(display)


def test_arms_of_one_value_are_tied(tmp_path: Path) -> None:
    made, shown = begun(tmp_path)
    run(made, "a-d0-s1", 0.0)
    assert "accuracy 0 (a)" in shown.line()
    run(made, "b-d0-s1", 0.0)
    assert "accuracy 0 (a, tied with 1 other arm)" in shown.line()


def test_an_arm_without_evidence_is_told_from_one_that_has_some(tmp_path: Path) -> None:
    made, shown = begun(tmp_path, tune=TUNE, search=SEARCH)
    assert "values:" not in text(shown)
    for arm, accuracy in (("a", 0.4), ("b", 0.3)):
        run(made, f"{arm}-d0-s0", accuracy)
        run(made, f"{arm}-d1-s0", accuracy)
    assert "values: each arm's best trial" in text(shown)
    run(made, "a-d0-s1", 0.35)
    assert "(0.3)" in text(shown) and "in brackets: the best so far" in text(shown)


def test_many_arms_with_long_names_fit_a_narrow_terminal(tmp_path: Path) -> None:
    levels = {f"{'a-long-name' * 20}-{number:03d}": {"lr": 0.1 + number / 1000} for number in range(100)}
    made, shown = begun(tmp_path, ablate={"case": {"levels": levels}}, seeds=[1])
    run(made, f"{made.plan.arms[70].name}-d0-s1", 0.9)
    console = Console(file=io.StringIO(), width=60)
    console.print(table(shown._tracker.snapshot(None), 60, 10))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(cell_len(line) <= 60 for line in lines)
    assert len(lines) == 10 + 4 and lines[-1] == "and 90 more arms"
    assert made.plan.arms[70].name[-4:] in lines[3] and lines[3].endswith("0.9")  # the first by rank
    assert all("…" in line for line in lines[3:-1])


def test_a_long_text_loses_its_middle() -> None:
    assert elided("short", 10) == "short"
    assert elided("model.mixer.kind=attention", 11) == "model…ntion"
    assert cell_len(elided("長" * 30, 12)) <= 12


def test_into_a_file_go_plain_lines_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with begun(tmp_path)[1]:
        time.sleep(0.3)
    out = capsys.readouterr().out
    assert out.startswith("toy: 6 not started") and "\x1b" not in out


def test_the_link_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = "http://127.0.0.1:5000/#/experiments/1/runs?" + "x" * 200
    known = iter(["", "", link])
    tracker = begun(tmp_path)[1]._tracker
    with Display(tracker, quiet=False, link=lambda: next(known)):
        time.sleep(2.2)
    out = capsys.readouterr().out
    assert out.splitlines().count(f"MLflow: {link}") == 1  # on one line, and without OSC 8 in a file
    assert "starting Ray" in out.splitlines()[0]


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(begun(tmp_path)[1]._tracker, quiet=True):
        time.sleep(0.1)
    assert capsys.readouterr().out == ""


def test_in_a_notebook_the_table_is_updated_in_its_cell(tmp_path: Path) -> None:
    cell = f"""
import pathlib, time
from tests.sweeps.observe import test_console
made, display = test_console.begun(pathlib.Path({str(tmp_path)!r}))
with display:
    test_console.run(made, "a-d0-s1", 0.4)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for output in notebook.cells[0].outputs if output.output_type == "display_data"]
    assert len(outputs) == 1 and "<pre>" in outputs[0].data["text/html"]
    row = next(line for line in outputs[0].data["text/plain"].splitlines() if line.startswith("a "))
    assert row.split() == ["a", "-", "1", "-", "-", "1", "0.4"]
