"""Trials that are lost with their worker or node, in virtual time: who is tried again, when and where."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.decide.retries import FIRST_WAIT_S, MAX_LOST, NODE_ROW, SWEEP_ROW
from sweeps.plan.model import Plan
from sweeps.plan.resources import ClusterResources, Node
from sweeps.record.journal import Event, Journal, read_journal
from sweeps.record.state import LOST, read_state
from tests.sweeps.playing import complete
from tests.sweeps.spaces import TUNE, toy_plan

KINDS = {"model.kind": ["a", "b", "c", "d"]}
Fate = Callable[
    [str, str], float | None
]  # of a trial on a node: seconds until it is lost; None: it completes


@dataclass
class Sim:
    """A cluster on which every trial takes an hour and reports once, at its end."""

    plan: Plan
    folder: Path
    nodes: list[Node]
    fate: Fate
    now: float = 0.0
    starts: Counter[str] = field(default_factory=Counter)
    dies_at: dict[str, float] = field(default_factory=dict)  # nodes

    def __post_init__(self) -> None:
        self.journal = self.folder / "journal.jsonl"
        history = list(read_journal(self.journal))
        self.controller = Controller(self.plan, Journal(self.journal), history, clock=lambda: self.now)
        self.controller.placement.nodes = ClusterResources(tuple(self.nodes))
        self.free = Counter({node.id: int(node.cpu) for node in self.nodes})
        self.running: dict[str, str] = {}
        self._ends: list[tuple[float, str, str]] = []

    def run(self) -> Controller:
        made = self.controller
        made.begin()
        while not (made.finished or made.must_stop):
            self._start()
            if self._ends:
                at, trial, node = heapq.heappop(self._ends)
                self.now = max(self.now, at)
                self._end(trial, node)
            else:
                self.now += 1.0  # all that is left waits
        return made

    def events(self, kind: str) -> list[Event]:
        return [event for event in read_journal(self.journal) if event["event"] == kind]

    def _start(self) -> None:
        while (place := +self.free) and (trial := self.controller.next_trial(exclude=self.running)):
            allowed = self.controller.retries.nodes(trial.trial_id)
            node = max((each for each in place if each in allowed), key=lambda each: place[each], default="")
            if not node:
                return
            self.controller.started(trial.trial_id, node)
            self.starts[node] += 1
            self.free[node] -= 1
            self.running[trial.trial_id] = node
            seconds = self.fate(trial.trial_id, node)
            end = self.now + (3600 if seconds is None else seconds)
            heapq.heappush(self._ends, (min(end, self.dies_at.get(node, end)), trial.trial_id, node))

    def _end(self, trial_id: str, node: str) -> None:
        made = self.controller
        del self.running[trial_id]
        if self.now >= self.dies_at.get(node, float("inf")):
            made.placement.nodes = made.placement.nodes.without({node})
            del self.free[node]
            made.lost(trial_id, "its node died")
            return
        self.free[node] += node in self.free
        if self.fate(trial_id, node) is None:
            complete(made, made.state.trials[trial_id], 0.5)
        else:
            made.lost(trial_id, "CUDA error: unknown error")


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda file: None, raising=False)


def sim(folder: Path, nodes: int, slots: int, fate: Fate, seeds: int, **changes: Any) -> Sim:
    changes = {"ablate": KINDS, "seeds": list(range(seeds)), "evidence": {"looks": "none"}, **changes}
    there = [Node(slots, 0, f"node{number:02d}", f"host{number:02d}") for number in range(nodes)]
    return Sim(toy_plan(folder, **changes), folder, there, fate)


def test_one_bad_node_of_64_eats_a_few_starts_and_fails_no_trial(tmp_path: Path) -> None:
    search = {"algorithm": "sobol", "draws_per_arm": 500, "seeds": [100], "keep": 1}

    def fate(trial: str, node: str) -> float | None:
        return 5.0 if node == "node07" else None

    played = sim(tmp_path, 64, 8, fate, seeds=2, tune=TUNE, search=search)
    statuses = Counter(trial.status for trial in played.run().state.trials.values())
    assert statuses == {"completed": 4 * 500 + 4 * 2}
    assert played.starts["node07"] <= 8 + NODE_ROW
    [warning] = played.events("warning")
    assert "host07" in warning["text"] and "CUDA error" in warning["text"]
    assert played.now <= 6 * 3600  # 2,000 hours on 504 slots, and an hour for the evidence


def test_the_only_node_is_never_excluded_and_a_node_that_no_other_can_replace_neither(tmp_path: Path) -> None:
    lost: Counter[str] = Counter()

    def fails_once_each(trial: str, node: str) -> float | None:
        return 5.0 if lost[trial] < 1 else None

    played = sim(tmp_path, 1, 2, fails_once_each, seeds=1)
    whole = played.controller.lost

    def counted(trial_id: str, reason: str, node: str = "") -> None:
        whole(trial_id, reason, node)
        lost[trial_id] += 1

    played.controller.lost = counted  # type: ignore[method-assign]
    assert {trial.status for trial in played.run().state.trials.values()} == {"completed"}
    assert not played.events("warning") and not played.controller.placement.excluded


def test_a_sweep_in_which_every_trial_is_lost_ends_and_burns_none(tmp_path: Path) -> None:
    played = sim(tmp_path, 2, 2, lambda trial, node: 5.0, seeds=10)
    made = played.run()
    assert "lost with their worker or node" in made.retries.gave_up and "CUDA error" in made.retries.gave_up
    assert not played.events("end") and sum(played.starts.values()) <= 3 * SWEEP_ROW
    again = Sim(made.plan, tmp_path, played.nodes, lambda trial, node: None)  # the cause was mended
    assert {trial.status for trial in again.run().state.trials.values()} == {"completed"}


def test_a_trial_that_kills_its_worker_wherever_it_runs_fails_alone(tmp_path: Path) -> None:
    played = sim(tmp_path, 4, 2, lambda trial, node: 60.0 if trial == "b-d0-s1" else None, seeds=6)
    made = played.run()
    failed = {each.trial_id: each for each in made.state.trials.values() if each.status == "failed"}
    assert set(failed) == {"b-d0-s1"}
    assert failed["b-d0-s1"].cause == "" and f"lost {MAX_LOST + 1} times" in failed["b-d0-s1"].reason
    assert not made.placement.excluded and not made.retries.gave_up
    nodes = [event["node"] for event in played.events("start") if event["trial_id"] == "b-d0-s1"]
    assert len(nodes) == MAX_LOST + 1
    assert all(before != after for before, after in pairwise(nodes))
    waits = played.events("retry")
    assert len(waits) == MAX_LOST and {event["cause"] for event in waits} == {LOST}
    assert read_state(played.journal).trials == made.state.trials


def test_a_node_that_dies_with_many_trials_is_one_failure(tmp_path: Path) -> None:
    played = sim(tmp_path, 2, 16, lambda trial, node: None, seeds=10)
    played.dies_at["node00"] = 100.0
    made = played.run()
    assert {trial.status for trial in made.state.trials.values()} == {"completed"}
    assert len(played.events("retry")) == 16 and not played.events("warning")
    assert {trial.failures for trial in made.state.trials.values()} == {0}


def test_a_lost_trial_waits_while_others_go_first(tmp_path: Path) -> None:
    played = sim(tmp_path, 1, 1, lambda trial, node: None, seeds=1)
    made = played.controller
    made.begin()
    first = made.next_trial()
    assert first is not None
    made.started(first.trial_id, "node00")
    made.lost(first.trial_id, "its worker was killed")
    second = made.next_trial()
    assert second is not None and second.trial_id != first.trial_id
    played.now = FIRST_WAIT_S
    again = made.next_trial()
    assert again is not None and again.trial_id == first.trial_id
    made.started(first.trial_id, "node00")
    made.lost(first.trial_id, "its worker was killed")
    played.now += FIRST_WAIT_S
    assert made.retries.waits(first.trial_id)  # twice as long now
    made.report(second.trial_id, {"step": 1, "samples": 1.0, "accuracy": 0.1})
    assert made.state.trials[first.trial_id].lost == 2
    made.report(first.trial_id, {"step": 1, "samples": 1.0, "accuracy": 0.1})
    assert made.state.trials[first.trial_id].lost == 0


def never_begins(made: Controller, trial_id: str, played: Sim) -> None:
    """Lose the trial as often as it takes, each time before its trainer has begun."""
    for _ in range(MAX_LOST + 1):
        made.lost(trial_id, "the library is missing", "node00", has_trained=False)
        played.now += 100.0


def test_a_trial_that_can_begin_nowhere_is_lost_and_has_not_failed(tmp_path: Path) -> None:
    played = sim(tmp_path, 1, 1, lambda trial, node: None, seeds=1)
    made = played.controller
    made.begin()
    never_begins(made, "b-d0-s0", played)
    assert made.state.trials["b-d0-s0"].is_lost and made.state.lost and not made.retries.gave_up


def test_where_no_open_trial_can_begin_the_launch_ends_and_no_trial(tmp_path: Path) -> None:
    played = sim(tmp_path, 1, 1, lambda trial, node: None, seeds=1, ablate={"model.kind": ["b"]})
    made = played.controller
    made.begin()
    assert len(made.state.open) < SWEEP_ROW
    for trial_id in list(made.state.open):
        made.lost(trial_id, "the library is missing", "node00", has_trained=False)
    never_begins(made, "b-d0-s0", played)
    assert "the library is missing" in made.retries.gave_up and made.must_stop
    assert not played.events("end")


def test_reports_of_the_past_do_not_show_that_a_worker_works(tmp_path: Path) -> None:
    played = sim(tmp_path, 1, 1, lambda trial, node: None, seeds=3)
    made = played.controller
    made.begin()
    first, *others = list(made.state.open)[: SWEEP_ROW + 1]
    made.started(first, "node00")
    made.report(first, {"step": 1, "samples": 1.0, "accuracy": 0.1})
    for step, trial_id in enumerate(others, start=2):
        made.lost(trial_id, "CUDA error", "node00")
        made.report(first, {"step": step, "samples": 1.0, "accuracy": 0.1}, is_copy=True)
    assert made.retries.gave_up


def test_that_nodes_are_not_inspected_yet_is_told(tmp_path: Path) -> None:
    played = sim(tmp_path, 1, 1, lambda trial, node: None, seeds=1)
    made = played.controller
    made.begin()
    made.placement.uninspected = {"node77"}
    assert made.retries.nodes("b-d0-s0") == ["node00"]
    made.see_nodes(ClusterResources(()))
    assert "still being inspected" in made.waits_for
