"""The smoothed choice of draws in the controller: all arms at once, whatever the order of ends and kills."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.plan.model import Plan
from sweeps.record.journal import read_journal
from sweeps.record.state import TrialState
from tests.sweeps.decide.test_controller import controller, statuses
from tests.sweeps.decide.test_controller import play as play_out
from tests.sweeps.playing import complete, play_with
from tests.sweeps.spaces import TUNE, toy_plan

SMOOTHED: dict[str, Any] = {"draws_per_arm": 12, "choose": "smoothed"}


def noisy_play(
    plan: Plan, journal: Path, order: random.Random, kill: float = 0.0, diverged: Collection[int] = ()
) -> Controller:
    """As `play_with`: a trial's value depends on arm, draw and seed alone. Arm a's draws in `diverged`
    diverge."""

    def end(made: Controller, trial: TrialState) -> None:
        if trial.arm == "a" and trial.draw in diverged:
            made.ended(trial.trial_id, "diverged", "accuracy is nan")
            return
        noise = random.Random(trial.trial_id).gauss(0, 0.05)
        complete(made, trial, 0.7 - 0.1 * math.log10(trial.values["lr"] / 0.1) ** 2 + noise)

    return play_with(end, plan, journal, order, kill)


def test_the_smoothed_choice_waits_for_the_searches_of_all_arms(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search=SMOOTHED)
    made = noisy_play(plan, tmp_path / "journal", random.Random(0))
    events = list(read_journal(tmp_path / "journal"))
    ends = [at for at, event in enumerate(events) if event["event"] == "end"]
    search = [at for at in ends if made.state.trials[events[at]["trial_id"]].phase == "search"]
    selects = [at for at, event in enumerate(events) if event["event"] == "select"]
    assert len(search) == 3 * 12
    assert selects == [search[-1] + 1, search[-1] + 2, search[-1] + 3]
    assert not made.state.warnings


def test_neither_order_nor_kills_change_the_smoothed_choice(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search={**SMOOTHED, "keep": 2})
    expected = noisy_play(plan, tmp_path / "0", random.Random(0)).state.selected
    best = toy_plan(tmp_path, tune=TUNE, search={"draws_per_arm": 12, "keep": 2})
    assert noisy_play(best, tmp_path / "best", random.Random(0)).state.selected != expected
    for number in range(1, 5):
        made = noisy_play(plan, tmp_path / str(number), random.Random(number), kill=0.1 * (number % 3))
        assert made.state.selected == expected
        evidence = {(t.arm, t.draw) for t in made.state.trials.values() if t.phase == "evidence"}
        assert evidence == {(arm, draw) for arm, draws in expected.items() for draw in draws}


def test_new_arms_change_no_draw_that_was_chosen_and_new_draws_do(tmp_path: Path) -> None:
    few = toy_plan(tmp_path, tune=TUNE, search=SMOOTHED, ablate={"model.kind": ["a", "b"]})
    before = noisy_play(few, tmp_path / "journal", random.Random(0)).state.selected
    # Selections to tell from those that the fit would make again: those of draw 3 and 4.
    text = (tmp_path / "journal").read_text()
    other = {"a": 3, "b": 4}
    lines = text.splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if json.loads(line)["event"] == "select")
    for at, arm in enumerate(other, start=first):
        assert json.loads(lines[at])["arm"] == arm and before[arm] != [other[arm]]
        lines[at] = json.dumps({**json.loads(lines[at]), "draws": [other[arm]]}) + "\n"
    (tmp_path / "journal").write_text("".join(lines[: first + 2]))
    more = toy_plan(tmp_path, tune=TUNE, search=SMOOTHED)
    wider = noisy_play(more, tmp_path / "journal", random.Random(1), kill=0.1)
    assert {arm: [draw] for arm, draw in other.items()}.items() < wider.state.selected.items()
    draws = toy_plan(tmp_path, tune=TUNE, search=SMOOTHED | {"draws_per_arm": 14})
    longer = noisy_play(draws, tmp_path / "journal", random.Random(1)).state.selected
    whole = noisy_play(draws, tmp_path / "whole", random.Random(0)).state.selected
    assert longer == whole and longer["a"] != [3]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_crash_between_the_selections_of_two_arms_changes_none(tmp_path: Path, written: int) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search=SMOOTHED)
    expected = noisy_play(plan, tmp_path / "whole", random.Random(0)).state.selected
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if json.loads(line)["event"] == "select")
    (tmp_path / "cut").write_text("".join(lines[: first + written]))
    made = noisy_play(plan, tmp_path / "cut", random.Random(1))
    assert made.state.selected == expected
    selects = [event["arm"] for event in read_journal(tmp_path / "cut") if event["event"] == "select"]
    assert sorted(selects) == ["a", "b", "c"]


def test_an_arm_with_few_completed_draws_takes_its_best_result_and_is_told(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search=SMOOTHED)
    made = noisy_play(plan, tmp_path / "journal", random.Random(0), diverged=range(5))
    (text,) = made.state.warnings
    assert text.startswith("a: 7 of its draws completed, too few for search.choose smoothed")
    completed = [
        trial
        for trial in made.state.trials.values()
        if trial.arm == "a" and trial.phase == "search" and trial.status == "completed"
    ]
    assert made.state.selected["a"] == [max(completed, key=lambda trial: trial.last["accuracy"]).draw]
    assert len(made.state.selected) == 3


def test_under_a_scheduler_the_smoothed_choice_is_of_a_completed_draw(tmp_path: Path) -> None:
    median = {"kind": "median", "scope": "arm", "grace_period": 50, "max_t": 100}
    plan = toy_plan(tmp_path, tune=TUNE, search=SMOOTHED | {"draws_per_arm": 24}, scheduler=median)
    made = controller(plan, tmp_path)
    play_out(made)
    assert made.finished and statuses(made.state)["pruned"]
    for arm, (draw,) in made.state.selected.items():
        assert made.state.trials[f"{arm}-d{draw}-s0"].status == "completed"
