"""The conductor without Ray: trials are played by hand, one report at a time."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sweeps.conductor import Conductor
from sweeps.journal import Journal, read_journal
from sweeps.plan import Plan, TrialPlan
from sweeps.state import SweepState
from tests.sweeps.spaces import ASHA, TUNE, toy_plan
from tests.sweeps.toy_trainer import ROWS, ToyConfig, accuracy


def conductor(plan: Plan, folder: Path) -> Conductor:
    path = folder / "journal.jsonl"
    made = Conductor(plan, Journal(path), list(read_journal(path)))
    made.begin()
    return made


def play(made: Conductor, at_once: int = 2, budget: int = 10_000, seed: int = 0) -> None:
    """Run trials as Ray would, `at_once` side by side, for `budget` reports at most."""
    rng = random.Random(seed)
    running: dict[str, tuple[TrialPlan, int]] = {}
    while budget > 0:
        while len(running) < at_once and (trial := made.next_trial(exclude=running)) is not None:
            made.started(trial.trial_id)
            running[trial.trial_id] = (trial, made.state.trials[trial.trial_id].last_step)
        if not running:
            return
        trial_id = rng.choice(sorted(running))
        trial, step = running[trial_id]
        step = max(step, 0) + 1
        budget -= 1
        config = ToyConfig.model_validate(trial.config)
        metrics = {"step": step, "samples": ROWS * step, "accuracy": accuracy(config, trial.seed, step)}
        if not made.report(trial_id, metrics):
            del running[trial_id]
        elif ROWS * step >= config.max_samples:
            made.ended(trial_id, "completed")
            del running[trial_id]
        else:
            running[trial_id] = (trial, step)


def statuses(state: SweepState) -> Counter[str]:
    return Counter(trial.status for trial in state.trials.values())


def test_without_tune_and_scheduler_every_trial_is_evidence_and_completes(tmp_path: Path) -> None:
    made = conductor(toy_plan(tmp_path), tmp_path)
    play(made)
    assert made.finished
    assert statuses(made.state) == {"completed": 6}
    assert {trial.phase for trial in made.state.trials.values()} == {"evidence"}


def test_asha_over_the_arms_stops_an_arms_seeds_together(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate={"model.kind": ["b", "a", "c", "d"]}, scheduler=ASHA)
    made = conductor(plan, tmp_path)
    play(made)
    assert made.finished
    by_arm: dict[str, set[str]] = {}
    for trial in made.state.trials.values():
        by_arm.setdefault(trial.arm, set()).add(trial.status)
        assert trial.phase == "search"
    assert by_arm["b"] == {"completed"}
    assert by_arm["d"] == {"pruned"}
    assert all(len(found) == 1 for found in by_arm.values())


def test_search_then_evidence_on_other_seeds_for_the_best_draw(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        tune=TUNE,
        search={"draws_per_arm": 4, "seeds": [0], "keep": 1},
        scheduler=ASHA | {"scope": "arm"},
    )
    made = conductor(plan, tmp_path)
    play(made)
    assert made.finished
    for arm in ("a", "b", "c"):
        trials = [trial for trial in made.state.trials.values() if trial.arm == arm]
        search = [trial for trial in trials if trial.phase == "search"]
        evidence = [trial for trial in trials if trial.phase == "evidence"]
        assert len(search) == 4 and {trial.seed for trial in search} == {0}
        assert {trial.seed for trial in evidence} == {1, 2}
        assert {trial.status for trial in evidence} == {"completed"}
        (chosen,) = {trial.draw for trial in evidence}
        best = max((t for t in search if t.status == "completed"), key=lambda t: t.last["accuracy"])
        assert chosen == best.draw


def test_every_arm_gets_the_same_draws(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search={"draws_per_arm": 8, "seeds": [0]}, scheduler=ASHA)
    made = conductor(plan, tmp_path)
    values: dict[str, list[Any]] = {}
    for trial in made.state.trials.values():
        values.setdefault(trial.arm, []).append(trial.values["lr"])
    assert len({tuple(drawn) for drawn in values.values()}) == 1
    assert len(set(values["a"])) == 8


def test_tpe_asks_as_it_goes_and_tells_what_came(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        tune=TUNE,
        search={"algorithm": "tpe", "draws_per_arm": 20, "seeds": [0]},
        scheduler=ASHA | {"scope": "arm"},
    )
    made = conductor(plan, tmp_path)
    play(made)
    assert made.finished
    for search in made._searches.values():
        states = Counter(trial.state.name for trial in search._study.get_trials())
        assert sum(states.values()) == 20
        assert states["RUNNING"] == 0 and states["PRUNED"] > 0 and states["COMPLETE"] > 0
    evidence = [trial for trial in made.state.trials.values() if trial.phase == "evidence"]
    assert len(evidence) == 3 * 2 and all("lr" in trial.values for trial in evidence)
    chosen = {(arm, draw) for arm, draws in made.state.selected.items() for draw in draws}
    assert {(trial.arm, trial.draw) for trial in evidence} == chosen


@pytest.mark.parametrize("algorithm", ["sobol", "tpe", "random"])
@pytest.mark.parametrize("cut", [1, 7, 23, 60])
def test_an_interrupted_sweep_goes_on_to_the_same_plan(tmp_path: Path, cut: int, algorithm: str) -> None:
    changes = {"tune": TUNE, "search": {"algorithm": algorithm, "draws_per_arm": 4, "seeds": [0]}}
    plan = toy_plan(tmp_path, **changes, scheduler=ASHA | {"scope": "arm"})
    first = conductor(plan, tmp_path)
    play(first, budget=cut)
    known = set(first.state.trials)
    ended = {name: trial.status for name, trial in first.state.trials.items() if trial.ended}
    second = conductor(plan, tmp_path)
    play(second, seed=1)
    assert second.finished
    assert known <= set(second.state.trials)
    assert {name: second.state.trials[name].status for name in ended} == ended
    assert len([t for t in second.state.trials.values() if t.phase == "search"]) == 3 * 4
    reports = Counter(
        (event["trial_id"], event["step"])
        for event in read_journal(tmp_path / "journal.jsonl")
        if event["event"] == "report"
    )
    assert set(reports.values()) == {1}


def test_fifo_ends_the_same_whether_interrupted_or_not(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search={"draws_per_arm": 3, "seeds": [0]})
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    whole = conductor(plan, tmp_path / "x")
    play(whole)
    play(conductor(plan, tmp_path / "y"), budget=31, seed=5)
    rest = conductor(plan, tmp_path / "y")
    play(rest, seed=6)
    assert {n: (t.status, t.reports) for n, t in whole.state.trials.items()} == {
        n: (t.status, t.reports) for n, t in rest.state.trials.items()
    }


def test_a_diverged_or_failed_draw_is_never_chosen(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path, ablate={"model.kind": ["b"]}, tune=TUNE, search={"draws_per_arm": 3, "seeds": [0]}
    )
    made = conductor(plan, tmp_path)
    trials = []
    while (trial := made.next_trial(exclude=[t.trial_id for t in trials])) is not None:
        trials.append(trial)
        made.started(trial.trial_id)
    values = {0: 0.9, 1: 0.5, 2: float("nan")}
    for trial in trials:
        metrics = {"step": 1, "samples": 100, "accuracy": values[trial.draw]}
        if trial.draw == 2:
            made.ended(trial.trial_id, "diverged", "accuracy is nan", metrics)
        else:
            made.report(trial.trial_id, metrics)
            made.ended(trial.trial_id, "failed" if trial.draw == 0 else "completed")
    assert made.state.selected == {"b": [1]}


def test_when_no_draw_completes_there_is_no_evidence_and_the_sweep_still_ends(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path, ablate={"model.kind": ["b"]}, tune=TUNE, search={"draws_per_arm": 2, "seeds": [0]}
    )
    made = conductor(plan, tmp_path)
    for _ in range(2):
        trial = made.next_trial()
        assert trial is not None
        made.started(trial.trial_id)
        made.ended(trial.trial_id, "failed", "broken")
    assert made.finished
    assert made.state.selected == {"b": []}
