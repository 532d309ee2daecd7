"""Sweeps that earlier versions left: the same search space finds them, and their journal means what it meant.

recorded/VERSION/ holds sweep.yaml and journal.jsonl of search_spaces/smoke.yaml as that version ran it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import run_sweep
from sweeps.decide.controller import Controller
from sweeps.plan.build import load_plan
from sweeps.record.folder import (
    JOURNAL,
    SPACE,
    as_recorded,
    inspect_folder,
    read_resolved,
    recorded_rule,
    write_space,
)
from sweeps.record.journal import Journal, read_journal
from sweeps.record.state import read_state
from sweeps.space.encoding import digest
from tests.conftest import ROOT

RECORDED = Path(__file__).parent / "recorded"
SMOKE = ROOT / "search_spaces" / "smoke.yaml"


@pytest.fixture(params=sorted(path.name for path in RECORDED.iterdir()))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A storage that holds the sweep of one version."""
    shutil.copytree(RECORDED / request.param, tmp_path / "smoke")
    return tmp_path


def test_the_same_search_space_is_the_same_sweep(storage: Path) -> None:
    stored, plan = read_resolved(storage / "smoke"), as_recorded(load_plan(SMOKE), storage / "smoke")
    assert stored["hash"] == digest(stored["identity"])
    assert plan.hash == stored["hash"]
    assert inspect_folder(plan, storage / "smoke", resume=False, extend=False).finished
    changed = as_recorded(load_plan(SMOKE, ["optim.lr=0.002"]), storage / "smoke")
    assert changed.hash != stored["hash"]


def test_its_report_is_shown_again(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sweep.main([str(SMOKE), "--storage", str(storage), "--tracking-uri", "sqlite:///none.db"]) == 0
    assert "This sweep is finished" in capsys.readouterr().out
    folder = storage / "smoke"
    assert (folder / "report.html").exists() and (folder / "summary.csv").exists()
    trials, events = pd.read_parquet(folder / "trials.parquet"), list(read_journal(folder / JOURNAL))
    ends = Counter(event["status"] for event in events if event["event"] == "end")
    assert Counter(trials["status"]) == ends
    history = pd.read_parquet(folder / "history.parquet")
    assert len(history) == sum(event["event"] == "report" for event in events)


def test_a_cut_journal_goes_on_where_it_stopped(storage: Path, tmp_path: Path) -> None:
    """Decisions that were taken stand, and what had ended is not run again."""
    path = storage / "smoke" / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    half = lines[: len(lines) // 2]
    path.write_text("".join(half))
    before, events = read_state(path), list(read_journal(path))
    controller = Controller(load_plan(storage / "smoke" / SPACE), Journal(tmp_path / "new.jsonl"), events)
    controller.begin()
    assert controller.state.decisions == before.decisions and not controller.finished
    ended = {name for name, trial in before.trials.items() if trial.ended}
    handed_out: list[str] = []
    while (trial := controller.next_trial(exclude=handed_out)) is not None:
        handed_out.append(trial.trial_id)
    assert handed_out and not ended & set(handed_out)
