"""Room is made among the checkpoints of ended trials, the worst first; a running trial keeps its own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sweeps.record.disk import DiskBudget
from sweeps.record.state import SweepState
from tests.sweeps.spaces import toy_plan

KB = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def checkpoint(folder: Path, trial_id: str, size: int = KB) -> None:
    path = folder / trial_id / "step_000000001"
    path.mkdir(parents=True)
    (path / "state").write_bytes(b"0" * size)


def sweep(tmp_path: Path, folder: Path, max_kb: float) -> tuple[SweepState, DiskBudget]:
    state = SweepState()
    budget = DiskBudget(str(folder), toy_plan(tmp_path, max_checkpoint_gb=max_kb / 1e6).spec, state)
    return state, budget


def trial(state: SweepState, trial_id: str, accuracy: float, phase: str = "search") -> None:
    fields = {"arm": "a", "draw": 0, "values": {}, "seed": 1, "phase": phase}
    state.apply({"event": "trial", "trial_id": trial_id, "time": 0, **fields})
    state.apply({"event": "start", "trial_id": trial_id, "time": 0})
    state.apply({"event": "report", "trial_id": trial_id, "time": 0, "step": 1, "accuracy": accuracy})


def end(state: SweepState, budget: DiskBudget, trial_id: str, status: str = "completed") -> None:
    event = {"event": "end", "trial_id": trial_id, "time": 0, "status": status}
    state.apply(event)
    budget(event)
    budget({"event": "finish", "time": 0, "status": "completed"})  # waits until the rest is done


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_worst_goes_first_and_only_as_much_as_must(tmp_path: Path, folder: Path) -> None:
    state, budget = sweep(tmp_path, folder, max_kb=2.5)
    for name, accuracy in (("good", 0.9), ("bad", 0.1), ("fair", 0.5), ("best", 0.95)):
        trial(state, name, accuracy)
        checkpoint(folder, name)
        end(state, budget, name)
    assert left(folder) == {"good", "best"}


def test_stopped_trials_go_before_completed_ones_and_search_before_evidence(
    tmp_path: Path, folder: Path
) -> None:
    state, budget = sweep(tmp_path, folder, max_kb=1.5)
    trial(state, "stopped", 0.99)
    trial(state, "searched", 0.9)
    trial(state, "shown", 0.2, phase="evidence")
    for name in ("stopped", "searched", "shown"):
        checkpoint(folder, name)
    end(state, budget, "stopped", "pruned")
    end(state, budget, "searched")
    end(state, budget, "shown")
    assert left(folder) == {"shown"}


def test_what_a_trial_may_go_on_from_stays_though_it_is_too_much(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, budget = sweep(tmp_path, folder, max_kb=1.5)
    for name in ("runs", "runs-too", "ended"):
        trial(state, name, 0.5)
        checkpoint(folder, name)
    end(state, budget, "ended")
    assert left(folder) == {"runs", "runs-too"}
    assert "running trials alone exceed" in caplog.text


def test_within_the_budget_nothing_goes(tmp_path: Path, folder: Path) -> None:
    state, budget = sweep(tmp_path, folder, max_kb=10)
    for name in ("a", "b"):
        trial(state, name, 0.5)
        checkpoint(folder, name)
        end(state, budget, name, "failed")
    assert left(folder) == {"a", "b"}


def test_no_event_waits_for_a_slow_store(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, budget = sweep(tmp_path, folder, max_kb=1.5)
    for name, accuracy in (("good", 0.9), ("bad", 0.1), ("runs", 0.5)):
        trial(state, name, accuracy)
        checkpoint(folder, name, KB // 2 if name == "runs" else KB)
    answers, look_up = threading.Event(), budget._bytes

    def slow(name: str) -> int:
        answers.wait(10)
        return look_up(name)

    monkeypatch.setattr(budget, "_bytes", slow)
    for name in ("good", "bad"):
        event = {"event": "end", "trial_id": name, "time": 0, "status": "completed"}
        state.apply(event)
        budget(event)
    assert left(folder) == {"good", "bad", "runs"} and not answers.is_set()
    answers.set()
    budget({"event": "finish", "time": 0, "status": "interrupted"})
    assert left(folder) == {"good", "runs"}


def test_a_store_that_fails_once_is_asked_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state, budget = sweep(tmp_path, folder, max_kb=1.5)
    for name, accuracy in (("good", 0.9), ("bad", 0.1)):
        trial(state, name, accuracy)
        checkpoint(folder, name)

    def fail(path: str) -> bool:
        raise ConnectionError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(budget._fs, "exists", fail)
        end(state, budget, "bad")
    assert "none could be deleted (no route)" in caplog.text
    end(state, budget, "good")
    assert left(folder) == {"good"}
