"""Sweeps that earlier versions left: the same search space finds them, and their journal means what it meant.

recorded/VERSION/ holds sweep.yaml and journal.jsonl of search_spaces/smoke.yaml as that version ran it.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import run_sweep
from analysis.configs import config_of
from analysis.inference.rule import Rule
from analysis.sweep import load_sweep
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
from sweeps.record.tables import rebuild
from sweeps.space.encoding import digest
from sweeps.space.errors import SpecError
from tests.conftest import ROOT
from trm.settings.overrides import flatten
from trm.settings.yaml import load_yaml

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


def test_its_configs_are_those_that_its_journal_has(storage: Path) -> None:
    rebuild(storage / "smoke")
    sweep = load_sweep(storage / "smoke")
    starts = [event for event in read_journal(storage / "smoke" / JOURNAL) if event["event"] == "start"]
    assert len(starts) == len(sweep.configs) == 8
    for start in starts:
        assert config_of(sweep, start["trial_id"]) == flatten(start["config"])


def test_a_cut_journal_goes_on_where_it_stopped(storage: Path, tmp_path: Path) -> None:
    """Decisions that were taken stand, and what had ended is not run again."""
    path = storage / "smoke" / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    half = lines[: len(lines) // 2]
    path.write_text("".join(half))
    before, events = read_state(path), list(read_journal(path))
    controller = Controller(load_plan(storage / "smoke" / SPACE), Journal(tmp_path / "new.jsonl"), events)
    controller.begin()
    assert not list(read_journal(tmp_path / "new.jsonl", name="decision")) and not controller.finished
    ended = {name for name, trial in before.trials.items() if trial.ended}
    handed_out: list[str] = []
    while (trial := controller.next_trial(exclude=handed_out)) is not None:
        handed_out.append(trial.trial_id)
    assert handed_out and not ended & set(handed_out)


def test_its_space_of_now_adds_to_it_and_it_stays_as_it_was_recorded(storage: Path) -> None:
    """New levels are added; neither looks nor a level come to a sweep whose values are known."""
    folder = storage / "smoke"
    before = load_yaml(folder / SPACE)
    path = storage / "smoke.yaml"
    space = {key: value for key, value in before.items() if key not in ("resolved", "evidence")}
    path.write_text(json.dumps(space | {"ablate": space["ablate"] | {"optim.weight_decay": [0.1, 0.2]}}))
    other = as_recorded(load_plan(path), folder)
    with pytest.raises(SpecError, match="does not only add"):  # the arms have other names
        inspect_folder(other, folder, resume=False, extend=True)
    levels = space["ablate"]["model.mixer.kind"]["levels"]
    wide = levels["mlp"] | {"model.num_layers": 2}
    path.write_text(json.dumps(space | {"ablate": {"model.mixer.kind": {"levels": levels | {"wide": wide}}}}))
    plan = as_recorded(load_plan(path), folder)
    assert plan.rule is None and not plan.comparisons and "evidence" not in plan.identity
    assert inspect_folder(plan, folder, resume=False, extend=True).extended
    write_space(plan, folder, read_resolved(folder)["data"], extended=True)
    after = load_yaml(folder / SPACE)
    assert after["evidence"] == before["evidence"] and "wide" in str(after["resolved"]["arms"])
    assert recorded_rule(folder) == Rule(pairing="paired", reserve=0.0, on_diverged="left_out")
    assert as_recorded(load_plan(path), folder).hash == read_resolved(folder)["hash"]


def test_a_dry_run_of_it_says_that_there_are_no_looks(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(SMOKE), "--storage", str(storage), "--resume", "--dry-run"]
    assert run_sweep.main(arguments) == 0
    out = capsys.readouterr().out
    assert "have already run" in out and "Question: " not in out
