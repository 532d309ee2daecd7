"""What was spent is told from the journal alone, and a limit ends a sweep that can go on later."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.budget import BudgetUsage
from sweeps.record.journal import read_journal
from sweeps.space.schema import Budget
from tests.sweeps.decide.test_controller import controller, play, statuses
from tests.sweeps.spaces import TUNE, toy_plan


def spent(*events: dict[str, Any], **limits: float) -> BudgetUsage:
    usage = BudgetUsage(Budget.model_validate(limits))
    for event in events:
        usage.apply(event)
    return usage


def event(name: str, at_h: float, trial_id: str = "", **fields: Any) -> dict[str, Any]:
    return {"event": name, "time": at_h * 3600, "trial_id": trial_id, **fields}


TWO_LAUNCHES = [
    event("launch", 0),
    event("start", 1, "a", gpu=0.5),
    event("start", 1, "b", gpu=1.0),
    event("report", 2, "a", samples=100),
    event("end", 3, "b"),  # an hour and a half of a GPU for a each hour, with b
    event("report", 4, "a", samples=200),  # and then the process is killed
    event("launch", 100),
    event("start", 101, "a", gpu=0.5),
    event("report", 102, "a", samples=100),  # again: a checkpoint was lost
    event("report", 103, "a", samples=300),
    event("end", 103, "a"),
    event("finish", 103),
]


def test_time_between_launches_costs_nothing_and_repeated_samples_count_once() -> None:
    found = spent(*TWO_LAUNCHES).spent(103 * 3600)
    assert found == pytest.approx({"trials": 2, "wall_h": 7, "gpu_h": 3 + 0.5 + 1, "samples": 300})


def test_time_since_the_last_event_counts_while_trials_run() -> None:
    found = spent(event("launch", 0), event("start", 0, "a", gpu=2.0)).spent(3600)
    assert found == pytest.approx({"trials": 1, "wall_h": 1, "gpu_h": 2, "samples": 0})


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"wall_h": 7}, "wall_h: 7 of 7"),
        ({"gpu_h": 4}, "gpu_h: 4.5 of 4"),
        ({"samples": 300}, "samples: 300 of 300"),
        ({"wall_h": 8, "gpu_h": 5, "samples": 301, "trials": 1}, ""),
        ({}, ""),
    ],
)
def test_the_first_limit_that_is_reached_is_named(limits: dict[str, float], why: str) -> None:
    assert spent(*TWO_LAUNCHES, **limits).exhausted(103 * 3600) == why


def test_trials_that_were_taken_over_cost_nothing() -> None:
    usage = spent(
        event("launch", 0),
        event("start", 0, "a", gpu=1.0, reused_from="other/a"),
        event("report", 1, "a", samples=100),
    )
    assert usage.spent(3600) == pytest.approx({"trials": 0, "wall_h": 1, "gpu_h": 0, "samples": 0})


def test_no_more_trials_begin_but_those_that_have_go_on(tmp_path: Path) -> None:
    changes = {"tune": TUNE, "search": {"draws_per_arm": 2, "seeds": [0]}}
    made = controller(toy_plan(tmp_path, **changes, budget={"trials": 4}), tmp_path)
    play(made)
    assert statuses(made.state) == {
        "completed": 4,
        "not_started": 4,
    }  # an arm that was searched has evidence to come
    assert not made.finished and made.out_of_budget == "trials: 4 of 4" and not made.must_stop
    made.finish("budget")
    again = controller(toy_plan(tmp_path, **changes, budget={"trials": 7}), tmp_path)  # the budget is raised
    play(again)
    assert statuses(again.state)["completed"] == 7
    rest = controller(toy_plan(tmp_path, **changes), tmp_path)
    play(rest)
    assert rest.finished and statuses(rest.state) == {"completed": 12}


def test_samples_are_counted_as_they_come(tmp_path: Path) -> None:
    made = controller(toy_plan(tmp_path, budget={"samples": 150}), tmp_path)
    play(made, budget=14)
    assert not made.must_stop
    play(made, budget=1)
    assert made.must_stop and made.out_of_budget == "samples: 150 of 150"
    events = [event for event in read_journal(tmp_path / "journal.jsonl") if event["event"] == "report"]
    assert len(events) == 15


def test_what_is_spent_is_not_read_while_an_event_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread must not see passed time counted already, and the time of the event before it still."""
    usage = spent(event("launch", 0), event("start", 0, "a", gpu=1.0))
    found: list[float] = []
    reader = threading.Thread(target=lambda: found.append(usage.spent(3600)["wall_h"]))
    pass_time = usage._pass_time

    def interrupted(now: float) -> None:
        pass_time(now)
        reader.start()
        reader.join(0.2)

    monkeypatch.setattr(usage, "_pass_time", interrupted)
    usage.apply(event("report", 1, "a", samples=100))
    reader.join()
    assert found == [pytest.approx(1)]
