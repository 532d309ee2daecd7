"""A sweep's progress, from its journal and sweep.yaml alone."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.observe.ahead import unplanned_trials
from sweeps.observe.progress import Progress, Tracker
from sweeps.plan.identity import resolved
from sweeps.plan.model import Plan
from sweeps.record.journal import Event, read_journal
from sweeps.record.state import SweepState, TrialState
from tests.sweeps.playing import EIGHT, FOUR, complete, play, play_with, value
from tests.sweeps.spaces import ASHA, TUNE, set_costs, toy_plan

TPE = {
    "tune": TUNE,
    "search": {"algorithm": "tpe", "draws_per_arm": 20, "keep": 2},
    "scheduler": {**ASHA, "scope": "arm"},
}


def tracked(plan: Plan, events: list[Event]) -> Tracker:
    state = SweepState()
    tracker = Tracker(state, resolved(plan))
    for event in events:
        state.apply(event)
        tracker.apply(event)
    return tracker


class Story:
    """A journal told event by event, with its times."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.events: list[Event] = []
        self.tell(0, "launch", hash=plan.hash)
        for trial in plan.first_trials():
            keys = ("trial_id", "arm", "draw", "values", "seed", "phase")
            self.tell(0, "trial", **{key: getattr(trial, key) for key in keys})

    def tell(self, time: float, event: str, trial_id: str = "", **fields: Any) -> None:
        named = {"trial_id": trial_id} if trial_id else {}
        self.events.append({"time": 1000.0 + time, "event": event, **named, **fields})

    def start(self, time: float, trial_id: str) -> None:
        self.tell(time, "start", trial_id, config={}, cpu=1, gpu=0)

    def report(self, time: float, trial_id: str, samples: float, accuracy: float) -> None:
        self.tell(time, "report", trial_id, step=int(samples), samples=samples, accuracy=accuracy)

    def trial(
        self, begin: float, end: float, trial_id: str, accuracy: float, status: str = "completed"
    ) -> None:
        self.start(begin, trial_id)
        self.report(end, trial_id, 100.0, accuracy)
        self.tell(end, "end", trial_id, status=status, reason="")

    def at(self, time: float | None) -> Progress:
        return tracked(self.plan, self.events).snapshot(None if time is None else 1000.0 + time)


def best_of(progress: Progress) -> tuple[str, float | None] | None:
    return progress.best and (progress.best.name, progress.best.value)


@pytest.mark.parametrize(
    "evidence", [{}, {"looks": "none"}, {"question": "best", "futility": 0.05}, {"baseline_seeds": [11, 12]}]
)
@pytest.mark.parametrize("more", [{}, {"tune": TUNE, "search": {"draws_per_arm": 2}}, TPE])
def test_what_may_still_be_planned_is_an_upper_bound_that_is_met_where_nothing_closes_early(
    tmp_path: Path, evidence: dict[str, Any], more: dict[str, Any]
) -> None:
    plan = toy_plan(tmp_path, ablate=FOUR, seeds=EIGHT, evidence=evidence, **more)
    space, totals = resolved(plan), []

    def unplanned(controller: Controller) -> int:
        return unplanned_trials(controller.state.trials.values(), controller.state, space)

    def end(controller: Controller, trial: TrialState) -> None:
        totals.append(len(controller.state.trials) + unplanned(controller))
        complete(controller, trial, value(trial.arm, trial.seed))

    controller = play_with(end, plan, tmp_path / "journal", random.Random(1), kill=0.02)
    assert unplanned(controller) == 0
    totals.append(len(controller.state.trials))
    assert totals == sorted(totals, reverse=True)
    if evidence == {"looks": "none"}:
        assert len(set(totals)) == 1


def test_a_trial_may_arrive_while_the_display_counts(tmp_path: Path) -> None:
    """The display has a thread of its own."""
    plan = toy_plan(tmp_path)
    tracker = Tracker(state := SweepState(), resolved(plan))

    class Arrives(TrialState):
        def __getattribute__(self, name: str) -> Any:
            if name == "phase" and len(state.trials) < 10:
                state.trials[f"new-{len(state.trials)}"] = self
            return super().__getattribute__(name)

    state.trials["first"] = Arrives("first", "a", 0, {}, 1, "search")
    assert tracker.snapshot(now=None).planned >= 1
    assert len(state.trials) > 1


def test_the_best_arm_is_that_of_the_search_until_there_is_evidence(tmp_path: Path) -> None:
    search = {"draws_per_arm": 1, "seeds": [0], "keep": 1}
    story = Story(toy_plan(tmp_path, ablate={"model.kind": ["a", "b"]}, tune=TUNE, search=search))
    assert story.at(1).best is None
    story.trial(1, 2, "a-d0-s0", 0.6)
    story.trial(1, 2, "b-d0-s0", 0.9)
    assert best_of(story.at(3)) == ("b", 0.9)
    for arm, seed, accuracy in (("a", 1, 0.5), ("a", 2, 0.7)):
        trial = {"arm": arm, "draw": 0, "values": {}, "seed": seed, "phase": "evidence"}
        story.tell(3, "trial", f"{arm}-d0-s{seed}", **trial)
        story.trial(3, 4, f"{arm}-d0-s{seed}", accuracy)
    assert best_of(story.at(5)) == ("a", pytest.approx(0.6))  # evidence, though the search found more in b
    assert [arm.is_evidence for arm in story.at(5).arms] == [True, False]


def test_a_value_that_is_infinite_or_of_a_diverged_trial_is_no_best(tmp_path: Path) -> None:
    story = Story(toy_plan(tmp_path, seeds=[1], scheduler=ASHA))
    story.trial(0, 1, "a-d0-s1", math.inf)
    story.start(0, "b-d0-s1")
    story.report(1, "b-d0-s1", 50.0, 0.8)
    assert best_of(story.at(2)) == ("b", 0.8)
    story.tell(2, "end", "b-d0-s1", status="diverged", reason="accuracy is nan")
    story.trial(2, 3, "c-d0-s1", 0.1)
    assert best_of(story.at(4)) == ("c", 0.1)


def test_for_a_loss_the_best_is_the_lowest(tmp_path: Path) -> None:
    story = Story(toy_plan(tmp_path, seeds=[1], objective={"metric": "accuracy", "mode": "min"}))
    story.trial(0, 1, "a-d0-s1", 0.4)
    story.trial(0, 1, "b-d0-s1", 0.7)
    assert best_of(story.at(2)) == ("a", 0.4)
    assert [arm.name for arm in story.at(2).ranked()] == ["a", "b", "c"]


def test_the_time_worked_is_that_of_all_launches_and_not_that_between_them(tmp_path: Path) -> None:
    story = Story(toy_plan(tmp_path))
    story.trial(0, 10, "a-d0-s1", 0.4, "failed")
    story.tell(20, "finish", status="interrupted")
    story.tell(500, "retry", "a-d0-s1", reason="", cause="asked")  # by a command, as nothing runs
    assert (story.at(None).elapsed_s, story.at(None).left_s) == (pytest.approx(20), None)
    story.tell(1000, "launch", hash=story.plan.hash)
    story.start(1005, "b-d0-s1")
    assert story.at(1030).elapsed_s == pytest.approx(20 + 30)
    assert story.at(None).elapsed_s == pytest.approx(20 + 5)


def test_the_time_left_is_that_of_the_samples_left_at_the_rate_of_this_launch(tmp_path: Path) -> None:
    story = Story(toy_plan(tmp_path))  # 6 trials of 100 samples
    assert story.at(10).left_s is None
    story.trial(0, 20, "a-d0-s1", 0.4)
    story.start(20, "b-d0-s1")
    story.report(30, "b-d0-s1", 50.0, 0.2)
    assert story.at(30).left_s == pytest.approx(30.0 * 450 / 150)
    story.tell(40, "finish", status="interrupted")
    story.tell(100, "launch", hash=story.plan.hash)
    assert story.at(110).left_s is None  # what was trained before a resume does not speed up the clock
    story.trial(100, 110, "a-d0-s2", 0.4)
    assert story.at(120).left_s == pytest.approx(20.0 * 350 / 100)


def test_the_time_left_counts_each_arms_trials_by_their_own_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_costs(monkeypatch)
    story = Story(toy_plan(tmp_path, match={"train_flops": "baseline", "by": "max_samples"}))
    story.start(0, "b-d0-s1")
    story.report(10, "b-d0-s1", 200.0, 0.2)  # as many FLOPs as 100 samples of a, 50 of c
    story.tell(10, "end", "b-d0-s1", status="completed", reason="")
    story.start(10, "c-d0-s1")
    story.report(15, "c-d0-s1", 25.0, 0.2)
    assert story.at(15).left_s == pytest.approx(15.0 * 4.5 / 1.5)


def test_an_older_sweep_has_one_length_of_all_arms(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path)
    story = Story(plan)
    story.trial(0, 20, "a-d0-s1", 0.4)
    tracker = tracked(plan, story.events)
    for arm in tracker._space["resolved"]["arms"].values():
        del arm["horizon"]
    assert tracker.snapshot(1020.0).left_s == pytest.approx(20.0 * 5)


def test_the_time_left_knows_of_the_evidence_to_come(tmp_path: Path) -> None:
    search = {"draws_per_arm": 2, "seeds": [0], "keep": 1}
    story = Story(toy_plan(tmp_path, tune=TUNE, search=search))  # 3 arms x 2 draws, then 3 arms x 2 seeds
    story.trial(0, 10, "a-d0-s0", 0.4)
    assert story.at(10).left_s == pytest.approx(10.0 * (5 + 6))
    assert (story.at(10).ended, story.at(10).planned) == (1, 12)


def test_where_the_length_of_a_trial_is_not_known_the_time_left_is_that_of_completed_trials(
    tmp_path: Path,
) -> None:
    plan = toy_plan(tmp_path)
    story = Story(plan)
    story.trial(0, 10, "a-d0-s1", 0.4)
    story.trial(0, 30, "a-d0-s2", 0.4)
    story.start(30, "b-d0-s1")

    def left_at(time: float) -> float | None:
        tracker = tracked(plan, story.events)
        for arm in tracker._space["resolved"]["arms"].values():
            arm["horizon"] = None
        return tracker.snapshot(1000.0 + time).left_s

    # Four trials of 20 s, one of which has run for 5 s, at 45 trial-seconds in 35 s.
    assert left_at(35) == pytest.approx((4 * 20 - 5) * 35 / 45)
    story.tell(40, "finish", status="interrupted")
    story.tell(100, "launch", hash=plan.hash)
    story.start(100, "b-d0-s1")
    # It has run for 10 s and for 5 s; three more are left, at 5 trial-seconds in 5 s of this launch.
    assert left_at(105) == pytest.approx(3 * 20 + 5)


def test_a_trial_that_ran_when_the_process_was_killed_is_interrupted(tmp_path: Path) -> None:
    story = Story(toy_plan(tmp_path))
    story.start(1, "a-d0-s1")
    story.tell(50, "launch", hash=story.plan.hash)
    assert story.at(60).trials == {"interrupted": 1, "not_started": 5}


def test_a_played_sweep_has_its_numbers(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate=FOUR, seeds=[1, 2])
    play(plan, tmp_path / "journal", random.Random(0))
    progress = tracked(plan, list(read_journal(tmp_path / "journal"))).snapshot(None)
    assert progress.trials == {"completed": 8} and progress.ended == progress.planned == 8
    assert best_of(progress) == ("b", pytest.approx((value("b", 1) + value("b", 2)) / 2))
    assert json.dumps(dict(progress.trials))


def test_the_time_in_which_ray_starts_is_not_counted_as_training(tmp_path: Path) -> None:
    story = Story(toy_plan(tmp_path))  # 6 trials of 100 samples
    assert story.at(20).is_starting and not story.at(None).is_starting
    story.start(40, "a-d0-s1")
    story.report(50, "a-d0-s1", 50.0, 0.2)
    assert not story.at(50).is_starting
    assert story.at(50).left_s == pytest.approx(10.0 * 550 / 50)  # it said 550 s, of which 40 were Ray's


def test_while_the_objective_is_0_the_metric_that_is_judged_can_be_shown(tmp_path: Path) -> None:
    scheduler = {**ASHA, "metric": "total"}
    story = Story(toy_plan(tmp_path, objective={"metric": "accuracy", "mode": "max"}, scheduler=scheduler))
    story.start(1, "a-d0-s1")
    story.start(1, "b-d0-s1")
    story.report(2, "a-d0-s1", 10.0, 0.0)
    for trial_id, total in (("a-d0-s1", 0.3), ("b-d0-s1", 0.5)):
        fields = {"step": 20, "samples": 20.0, "accuracy": 0.0, "total": total}
        story.tell(3, "report", trial_id, **fields)
    tracker = tracked(story.plan, story.events)
    shown = tracker.snapshot(1004.0, or_judged=True)
    assert (shown.metric, best_of(shown)) == ("total", ("b", 0.5))
    assert tracker.snapshot(1004.0).metric == "accuracy"  # as `status` has it
    story.report(5, "a-d0-s1", 30.0, 0.1)
    shown = tracked(story.plan, story.events).snapshot(1005.0, or_judged=True)
    assert (shown.metric, best_of(shown)) == ("accuracy", ("a", 0.1))
