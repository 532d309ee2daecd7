"""The state that is built from the journal's events."""

from __future__ import annotations

import math

import pytest

from sweeps.record.state import SweepState, TrialState


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_best_value_is_a_finite_one(mode: str) -> None:
    """The last report of a trial that diverged may be infinite."""
    trial = TrialState("a-d0-s1", "a", 0, {}, 1, "search")
    for step, value in enumerate((0.5, math.inf, -math.inf, math.nan), start=1):
        trial.report(step, {"accuracy": value})
    assert trial.best("accuracy", mode) == (0.5, 1)
    assert trial.best("loss", mode) is None


def test_the_indexes_follow_every_change_of_a_trial() -> None:
    state = SweepState()

    def apply(event: str, **fields: object) -> None:
        state.apply({"event": event, "time": 0.0, **fields})
        trials = state.trials.values()
        assert state.open == {t.trial_id: t for t in trials if not t.ended}
        assert state.not_started == {t.trial_id: t for t in trials if t.status == "not_started"}
        assert state.interrupted == {t.trial_id: t for t in trials if t.status == "interrupted"}
        for arm in {t.arm for t in trials}:
            search = [t for t in trials if t.arm == arm and t.phase == "search"]
            assert state.searched.get(arm, []) == search
            assert state.searching.get(arm, set()) == {t.trial_id for t in search if not t.ended}

    for arm in "ab":
        for seed, phase in enumerate(("search", "search", "evidence")):
            plan = {"arm": arm, "draw": 0, "values": {}, "seed": seed, "phase": phase}
            apply("trial", trial_id=f"{arm}{seed}", **plan)
    apply("launch", hash="x")
    for trial_id in ("a0", "a1", "a2", "b0"):
        apply("start", trial_id=trial_id)
    apply("end", trial_id="a0", status="completed")
    apply("retry", trial_id="a1", reason="broken")
    apply("end", trial_id="a2", status="failed", cause="lost")
    apply("retry", trial_id="a2", reason="lost")
    apply("finish", status="interrupted")
    apply("launch", hash="x")
    apply("start", trial_id="b0")
    apply("launch", hash="x")
    apply("extend", hash="y", reopened=["a0"])
    assert set(state.interrupted) == {"a0", "a1", "a2", "b0"}


def test_the_end_of_a_launch_beside_which_another_one_runs_is_not_the_sweeps() -> None:
    state = SweepState()
    for trial_id in ("a", "b"):
        plan = {"arm": trial_id, "draw": 0, "values": {}, "seed": 0, "phase": "evidence"}
        state.apply({"event": "trial", "time": 0.0, "trial_id": trial_id, **plan})
    for event in ({"event": "launch", "hash": "x"}, {"event": "end", "trial_id": "a", "status": "completed"}):
        state.apply({**event, "time": 0.0})
    state.apply({"event": "finish", "time": 0.0, "status": "completed"})
    assert state.finished == "interrupted"  # b is open
    state.apply({"event": "start", "time": 0.0, "trial_id": "b"})
    assert state.finished == ""
