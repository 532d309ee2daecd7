"""Sweeps in which results decide what is run. Two undisturbed ones differ by the order in which reports
arrive; what holds for one that was interrupted all the same is in docs/faults.md, and here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.plan.build import load_plan
from sweeps.record.journal import Journal, read_journal
from tests.faults.harness import Sweep
from tests.sweeps.spaces import ASHA
from tests.sweeps.toy_trainer import ToyConfig, accuracy

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def _assert_every_report_once(sweep: Sweep) -> None:
    """From the first step on without a gap, with the values that the trainer has for them."""
    configs = {event["trial_id"]: event["config"] for event in sweep.events("start")}
    seeds = {event["trial_id"]: event["seed"] for event in sweep.events("trial")}
    for trial_id, rows in sweep.history().groupby("trial_id"):
        steps = list(rows.step)
        assert steps == list(range(1, len(steps) + 1)), trial_id
        config = ToyConfig.model_validate(configs[trial_id])
        assert list(rows.accuracy) == [accuracy(config, seeds[trial_id], step) for step in steps], trial_id


def _assert_ended_once(sweep: Sweep) -> None:
    """Each trial was planned once and ended once, and nothing came of it after its end."""
    events = list(read_journal(sweep.results / "journal.jsonl"))
    ended: set[str] = set()
    for event in events:
        if event["event"] in ("start", "report", "retry", "end"):
            assert event["trial_id"] not in ended, event
        if event["event"] == "end":
            ended.add(event["trial_id"])
    planned = Counter(event["trial_id"] for event in events if event["event"] == "trial")
    assert set(planned.values()) == {1} and set(planned) == ended


def _interrupted_and_resumed(folder: Path, after: int, **changes: Any) -> Sweep:
    sweep = Sweep(folder, **changes)
    sweep.killed(after)
    resumed = sweep.run("--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    _assert_every_report_once(sweep)
    _assert_ended_once(sweep)
    sweep.assert_mirrored()
    return sweep


@pytest.mark.parametrize("after", [12, 30])
def test_asha_stands_by_its_decisions(tmp_path: Path, after: int) -> None:
    kinds = {"model.kind": ["b", "a", "c", "d"]}
    sweep = _interrupted_and_resumed(
        tmp_path, after, ablate=kinds, tune=None, search=None, seeds=[1, 2], scheduler=ASHA
    )
    assert set(sweep.statuses().values()) == {"completed", "pruned"}
    decisions = sweep.events("decision")
    assert max(Counter((each["member"], each["rung"]) for each in decisions).values()) == 1
    stops = {each["member"] for each in decisions if each["action"] == "stop"}
    pruned = {trial_id.rsplit("-", 1)[0] for trial_id, to in sweep.statuses().items() if to == "pruned"}
    assert stops == pruned
    assert stops == _stopped_by(sweep, tmp_path / "again.jsonl")


def _stopped_by(sweep: Sweep, journal: Path) -> set[str]:
    """The members that a controller stops that hears the sweep's journal from its beginning."""
    history = read_journal(sweep.results / "journal.jsonl")
    controller = Controller(load_plan(sweep.space), Journal(journal), history)
    return set(controller.stopping.stopped)


@pytest.mark.parametrize("after", [15, 55])
def test_tpe_loses_no_draw_and_asks_for_none_twice(tmp_path: Path, after: int) -> None:
    search = {"algorithm": "tpe", "draws_per_arm": 4, "seeds": [0], "keep": 1}
    sweep = _interrupted_and_resumed(tmp_path, after, search=search, seeds=[1])
    assert set(sweep.statuses().values()) == {"completed"}
    draws: dict[str, dict[int, Any]] = {}
    for trial in sweep.events("trial"):
        assert (
            draws.setdefault(trial["arm"], {}).setdefault(trial["draw"], trial["values"]) == trial["values"]
        )
    assert {arm: sorted(of_it) for arm, of_it in draws.items()} == {arm: [0, 1, 2, 3] for arm in draws}
    chosen = [(event["arm"], len(event["draws"])) for event in sweep.events("select")]
    assert sorted(chosen) == [(arm, 1) for arm in sorted(draws)]
