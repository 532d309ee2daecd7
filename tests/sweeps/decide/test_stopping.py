"""Decisions to stop across restarts, losses and extensions: the journal's stand, and the rest are made."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.plan.model import Plan
from sweeps.record.journal import Event, Journal, read_journal
from sweeps.record.state import LOST
from sweeps.schedulers.asha import Asha
from tests.sweeps.decide.test_controller import controller, play, statuses
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

KINDS = {"model.kind": ["b", "a", "c", "d"]}
MEDIAN = {"kind": "median", "scope": "sweep", "grace_period": 20, "max_t": 100}
FIXED = {"kind": "fixed", "scope": "sweep", "grace_period": 20, "max_t": 100, "keep": 2}


def decided(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The decisions, without their times."""
    found = [event for event in events if event["event"] == "decision"]
    return [{key: value for key, value in event.items() if key != "time"} for event in found]


def report(made: Controller, trial_id: str, step: int, value: float) -> bool:
    return made.report(trial_id, {"step": step, "samples": 10 * step, "accuracy": value})


def run_with_failures(made: Controller, order: random.Random) -> None:
    """All trials at once, one report at a time in a random order; some diverge, and some are lost."""
    while (trial := made.next_trial()) is not None:
        made.started(trial.trial_id)
    steps = dict.fromkeys(made.state.trials, 0)
    while made.state.open:
        trial_id = order.choice(sorted(made.state.open))
        chance = order.random()
        if chance < 0.03:
            made.ended(trial_id, "diverged", "accuracy is nan")
        elif chance < 0.06:
            made.ended(trial_id, "failed", "the node died", cause=LOST)
        else:
            steps[trial_id] += order.choice([1, 1, 1, 3])  # some reports jump over rungs
            goes_on = report(made, trial_id, min(steps[trial_id], 10), order.choice([0.1, 0.2, 0.3, 0.4]))
            if goes_on and steps[trial_id] >= 10:
                made.ended(trial_id, "completed")


@pytest.mark.parametrize("scheduler", [ASHA | {"audit": 0.3}, MEDIAN, FIXED], ids=["asha", "median", "fixed"])
@pytest.mark.parametrize("seed", range(3))
def test_after_a_crash_anywhere_the_same_is_decided_as_without_it(
    tmp_path: Path, scheduler: dict[str, Any], seed: int
) -> None:
    plan = toy_plan(tmp_path, ablate=KINDS, seeds=[1, 2, 3], scheduler=scheduler)
    run_with_failures(controller(plan, tmp_path), random.Random(seed))
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    first = next(index for index, event in enumerate(events) if event["event"] == "start")
    cuts = random.Random(seed).sample(range(first, len(lines)), 8)
    cuts += [index for index, event in enumerate(events) if event["event"] == "decision"][::6]
    for cut in cuts:
        path.write_text("".join(lines[:cut]))
        made = controller(plan, tmp_path)
        for event in events[cut:]:
            trial = made.state.trials.get(event.get("trial_id", ""))
            if trial is None or trial.ended:
                continue
            if event["event"] == "report":
                report(made, trial.trial_id, event["step"], event["accuracy"])
            elif event["event"] == "end" and event["status"] != "pruned":
                made.ended(trial.trial_id, event["status"], cause=event.get("cause", ""))
        assert decided(read_journal(path)) == decided(events), cut
        pruned = [event for event in events if event["event"] == "end" and event["status"] == "pruned"]
        made.next_trial()  # ends what the scheduler has stopped
        assert {
            event["trial_id"]: event["reason"] for event in pruned
        } == {t.trial_id: t.reason for t in made.state.trials.values() if t.status == "pruned"}  # fmt: skip


@pytest.mark.parametrize("losers", ["none", "all"])
def test_other_code_leaves_the_decisions_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losers: str
) -> None:
    plan = toy_plan(tmp_path, ablate=KINDS, scheduler=ASHA)
    made = controller(plan, tmp_path)
    play(made, at_once=8, budget=40)
    journal = tmp_path / "journal.jsonl"
    before, stopped = decided(read_journal(journal)), dict(made.stopping.stopped)
    assert stopped and made.state.open

    def judge(self: Asha, pool: Any, rung: float, member: str) -> tuple[float, list[str]]:
        return 0.99, [] if losers == "none" else [member]

    monkeypatch.setattr(Asha, "judge", judge)
    again = controller(plan, tmp_path)
    assert again.stopping.stopped == stopped
    assert decided(read_journal(journal)) == before


def lone(tmp_path: Path, **changes: Any) -> tuple[Plan, Controller]:
    plan = toy_plan(tmp_path, ablate={"model.kind": ["b", "a", "c"]}, seeds=[1, 2], scheduler=ASHA, **changes)
    made = controller(plan, tmp_path)
    for trial_id in made.state.trials:
        made.started(trial_id)
    return plan, made


def test_a_seed_that_was_lost_does_not_count_against_its_draw(tmp_path: Path) -> None:
    """The draw is judged by its other seed, also where it waited for the lost one."""
    _, made = lone(tmp_path)
    for arm, value in (("a", 0.5), ("c", 0.4)):
        for seed in (1, 2):
            report(made, f"{arm}-d0-s{seed}", 2, value)
    report(made, "b-d0-s1", 2, 0.6)
    made.ended("b-d0-s2", "failed", "the node died", cause=LOST)
    last = decided(read_journal(tmp_path / "journal.jsonl"))[-1]
    assert (last["member"], last["rung"], last["value"], last["action"]) == ("b-d0", 20, 0.6, "continue")
    assert report(made, "b-d0-s1", 4, 0.7)
    last = decided(read_journal(tmp_path / "journal.jsonl"))[-1]
    assert last["member"] == "b-d0" and last["rung"] == 40
    assert "b-d0" not in made.stopping.stopped


def test_a_failure_of_the_trainer_counts_as_the_worst(tmp_path: Path) -> None:
    _, made = lone(tmp_path)
    for seed in (1, 2):
        report(made, f"a-d0-s{seed}", 2, 0.5)
    report(made, "b-d0-s1", 2, 0.6)
    made.ended("b-d0-s2", "failed", "broken")
    assert "b-d0" in made.stopping.stopped


@pytest.mark.parametrize("seeds", [[1], [1, 2]])
def test_a_failed_trial_that_is_retried_by_hand_is_judged_by_its_new_values(
    tmp_path: Path, seeds: list[int]
) -> None:
    """Its failure had stopped its draw."""
    plan = toy_plan(tmp_path, ablate={"model.kind": ["b", "a", "c"]}, seeds=seeds, scheduler=ASHA)
    made = controller(plan, tmp_path)
    for arm, value in (("a", 0.5), ("c", 0.4)):
        for seed in seeds:
            report(made, f"{arm}-d0-s{seed}", 2, value)
    for seed in seeds:
        report(made, f"b-d0-s{seed}", 1, 0.6)
    made.ended("b-d0-s1", "failed", "broken")
    for seed in seeds[1:]:
        report(made, f"b-d0-s{seed}", 2, 0.6)
    assert "b-d0" in made.stopping.stopped
    with_retry = Journal(tmp_path / "journal.jsonl")
    for trial in made.state.trials.values():
        if trial.arm == "b" and trial.ended:
            with_retry.append("retry", trial_id=trial.trial_id, reason="asked for")
    again = controller(plan, tmp_path)
    assert "b-d0" not in again.stopping.stopped
    for seed in seeds:
        assert report(again, f"b-d0-s{seed}", 2, 0.6)
    last = decided(read_journal(tmp_path / "journal.jsonl"))[-1]
    assert (last["member"], last["rung"], last["value"], last["action"]) == ("b-d0", 20, 0.6, "continue")


def test_a_draw_that_completed_as_its_stop_was_decided_goes_on_when_the_horizon_moves(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, scheduler=ASHA, seeds=[1])
    made = controller(plan, tmp_path)
    for trial_id in ("b-d0-s1", "a-d0-s1"):
        made.started(trial_id)
    assert report(made, "b-d0-s1", 8, 0.9) and report(made, "a-d0-s1", 10, 0.4)  # at its end, and worse
    made.ended("a-d0-s1", "completed")
    assert made.stopping.stopped["a-d0"].rung == 80
    longer = toy_plan(tmp_path, scheduler=ASHA | {"max_t": 300}, seeds=[1])
    again = controller(longer, tmp_path)
    while (trial := again.next_trial(exclude=[t for t in again.state.trials if t != "a-d0-s1"])) is not None:
        again.started(trial.trial_id)
    assert again.state.trials["a-d0-s1"].status == "running"
    assert "a-d0" not in controller(longer, tmp_path).stopping.stopped  # after a restart too


def test_a_completed_seed_of_a_stopped_draw_stays_as_it_is_when_the_horizon_moves(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, scheduler=ASHA, seeds=[1, 2])
    made = controller(plan, tmp_path)
    for seed in (1, 2):
        report(made, f"b-d0-s{seed}", 8, 0.9)
    report(made, "a-d0-s1", 10, 0.4)
    made.ended("a-d0-s1", "completed")
    report(made, "a-d0-s2", 8, 0.4)  # it comes to the rung at 80 with the other
    assert made.state.trials["a-d0-s2"].status == "pruned"
    again = controller(toy_plan(tmp_path, scheduler=ASHA | {"max_t": 300}, seeds=[1, 2]), tmp_path)
    again.next_trial()
    assert again.state.trials["a-d0-s1"].status == "completed"


def test_an_arm_of_which_every_draw_diverges_or_fails_is_told(tmp_path: Path) -> None:
    search = {"draws_per_arm": 2, "seeds": [0]}
    made = controller(toy_plan(tmp_path, tune=TUNE, search=search), tmp_path)
    for trial in list(made.state.trials.values()):
        report(made, trial.trial_id, 1, 0.5)
        made.ended(trial.trial_id, "completed" if trial.arm != "b" else ("failed", "diverged")[trial.draw])
    (warning,) = made.state.warnings
    assert warning.startswith("b: every draw of its search diverged or failed, so it has no evidence")
    assert made.state.selected["b"] == [] and made.state.selected["a"]


def test_tpe_asks_its_first_draws_at_once_and_the_others_as_results_come(tmp_path: Path) -> None:
    """However many workers there are: a draw that is asked before any result is a random one."""
    search = {"algorithm": "tpe", "draws_per_arm": 40, "seeds": [0]}
    plan = toy_plan(tmp_path, ablate={"model.kind": ["b", "a"]}, tune=TUNE, search=search)
    made = controller(plan, tmp_path)

    def start() -> int:
        while (trial := made.next_trial()) is not None:
            made.started(trial.trial_id)
        return len(made.state.searched["b"])

    assert start() == 10
    for ended in range(1, 41):
        trial = made.state.searched["b"][ended - 1]
        report(made, trial.trial_id, 10, 0.5)
        made.ended(trial.trial_id, "completed")
        assert start() == (10 if ended < 10 else min(40, ended + 10))
    for trial in made.state.searched["a"]:
        made.ended(trial.trial_id, "failed", "broken")  # nothing is left to wait for
    assert start() and len(made.state.searched["a"]) == 20
    assert statuses(made.state)["running"]
    again = Controller(plan, Journal(tmp_path / "again.jsonl"), read_journal(tmp_path / "journal.jsonl"))
    again.begin()
    assert again._searches["b"].asked == 40 and again._searches["a"].asked == 20


@pytest.mark.parametrize("lost_is_last", [True, False])
def test_a_member_whose_other_seeds_have_completed_cannot_be_stopped(
    tmp_path: Path, lost_is_last: bool
) -> None:
    kinds = {"model.kind": ["b", "a", "c"]}
    made = controller(toy_plan(tmp_path, ablate=kinds, seeds=[1, 2], scheduler=FIXED), tmp_path)
    for trial_id in made.state.trials:
        made.started(trial_id)
    report(made, "b-d0-s1", 10, 0.1)
    ends = [("b-d0-s1", "completed", ""), ("b-d0-s2", "failed", LOST)]
    for trial_id, status, cause in ends if lost_is_last else reversed(ends):
        made.ended(trial_id, status, "the node died", cause=cause)
    for arm in ("a", "c"):
        for seed in (1, 2):
            report(made, f"{arm}-d0-s{seed}", 10, 0.9)
    assert "b-d0" not in made.stopping.decisions
