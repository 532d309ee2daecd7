"""The controller without Ray: trials are played by hand, one report at a time."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.controller import Controller
from sweeps.decide.search import TPESearch
from sweeps.plan.identity import resolved
from sweeps.plan.model import Plan, TrialPlan
from sweeps.record.journal import Journal, read_journal
from sweeps.record.state import SweepState
from sweeps.record.tables import trials_frame
from tests.sweeps.spaces import ASHA, TUNE, toy_plan
from tests.sweeps.toy_trainer import ROWS, ToyConfig, accuracy


def controller(plan: Plan, folder: Path) -> Controller:
    path = folder / "journal.jsonl"
    made = Controller(plan, Journal(path), list(read_journal(path)))
    made.begin()
    return made


def play(made: Controller, at_once: int = 2, budget: int = 10_000, seed: int = 0) -> None:
    """Run trials as Ray would, `at_once` side by side, for `budget` reports at most."""
    rng = random.Random(seed)
    running: dict[str, tuple[TrialPlan, int]] = {}
    while budget > 0:
        before = made.state.num_ended
        while len(running) < at_once and (trial := made.next_trial(exclude=running)) is not None:
            made.started(trial.trial_id)
            running[trial.trial_id] = (trial, made.state.trials[trial.trial_id].last_step)
        if not running:
            if made.state.num_ended > before:  # some trials were taken over: ask again
                continue
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
    made = controller(toy_plan(tmp_path), tmp_path)
    play(made)
    assert made.finished
    assert statuses(made.state) == {"completed": 6}
    assert {trial.phase for trial in made.state.trials.values()} == {"evidence"}


@pytest.mark.parametrize(("unit", "bonus"), [("share", 0.2), ("percent", 200)])
def test_a_value_that_contradicts_the_unit_fails_the_trial_at_that_report(
    tmp_path: Path, unit: str, bonus: float
) -> None:
    objective = {"metric": "accuracy", "mode": "max", "unit": unit}
    base = {"model": {"kind": "b"}, "max_samples": 100}
    made = controller(
        toy_plan(
            tmp_path, objective=objective, base=base, ablate={"model.bonus": [0, bonus]}, max_failures=3
        ),
        tmp_path,
    )
    play(made)
    assert made.finished and statuses(made.state) == {"completed": 2, "failed": 2}
    limits = {"share": r"\(0 to 1\): set unit: percent", "percent": r"\(0 to 100\): set unit: none"}[unit]
    for trial in made.state.trials.values():
        if trial.status == "failed":
            assert re.fullmatch(rf"accuracy is \S+, but objective.unit is {unit} {limits}", trial.reason)
            assert trial.attempts == 1 and trial.reports  # no retry; what came before is kept
            assert all(
                each["accuracy"] <= {"share": 1, "percent": 100}[unit] for each in trial.reports.values()
            )


def test_asha_over_the_arms_stops_an_arms_seeds_together(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate={"model.kind": ["b", "a", "c", "d"]}, scheduler=ASHA)
    made = controller(plan, tmp_path)
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
    made = controller(plan, tmp_path)
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
    made = controller(plan, tmp_path)
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
    made = controller(plan, tmp_path)
    play(made)
    assert made.finished
    for search in made._searches.values():
        states = Counter(trial.state.name for trial in search.study().get_trials())
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
    first = controller(plan, tmp_path)
    play(first, budget=cut)
    known = set(first.state.trials)
    ended = {name: trial.status for name, trial in first.state.trials.items() if trial.ended}
    second = controller(plan, tmp_path)
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
    whole = controller(plan, tmp_path / "x")
    play(whole)
    play(controller(plan, tmp_path / "y"), budget=31, seed=5)
    rest = controller(plan, tmp_path / "y")
    play(rest, seed=6)
    assert {n: (t.status, t.reports) for n, t in whole.state.trials.items()} == {
        n: (t.status, t.reports) for n, t in rest.state.trials.items()
    }


def test_a_diverged_or_failed_draw_is_never_chosen(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path, ablate={"model.kind": ["b"]}, tune=TUNE, search={"draws_per_arm": 3, "seeds": [0]}
    )
    made = controller(plan, tmp_path)
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
    made = controller(plan, tmp_path)
    for _ in range(2):
        trial = made.next_trial()
        assert trial is not None
        made.started(trial.trial_id)
        made.ended(trial.trial_id, "failed", "broken")
    assert made.finished
    assert made.state.selected == {"b": []}


def test_decisions_stand_when_a_sweep_that_saw_a_divergence_goes_on(tmp_path: Path) -> None:
    """A diverging report is not judged, live or replayed, however good the value that came with the NaN."""
    plan = toy_plan(tmp_path, scheduler=ASHA, seeds=[1])
    made = controller(plan, tmp_path)
    for trial_id in ("a-d0-s1", "b-d0-s1", "c-d0-s1"):
        made.started(trial_id)
    bad = {"step": 2, "samples": 20, "accuracy": 0.95, "total": float("nan")}
    made.ended("a-d0-s1", "diverged", "total is nan", bad)
    assert made.report("b-d0-s1", {"step": 2, "samples": 20, "accuracy": 0.5})
    assert made.report("c-d0-s1", {"step": 2, "samples": 20, "accuracy": 0.5})
    again = controller(plan, tmp_path)
    play(again)
    assert {trial.arm: trial.status for trial in again.state.trials.values()}["b"] == "completed"


def test_a_trial_at_its_end_completes_though_its_member_was_stopped(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, scheduler=ASHA, seeds=[1])
    made = controller(plan, tmp_path)
    made.started("b-d0-s1")
    made.report("b-d0-s1", {"step": 8, "samples": 80, "accuracy": 0.9})
    made.started("a-d0-s1")
    assert made.report("a-d0-s1", {"step": 10, "samples": 100, "accuracy": 0.4})  # past every rung at once
    made.ended("a-d0-s1", "completed")
    assert made.state.trials["a-d0-s1"].status == "completed"


def test_tpe_leaves_an_arm_without_anything_to_tune_alone(tmp_path: Path) -> None:
    tune = {"lr": {"loguniform": [0.01, 1.0], "when": {"model.kind": ["a"]}}}
    search = {"algorithm": "tpe", "draws_per_arm": 5, "seeds": [0]}
    made = controller(toy_plan(tmp_path, tune=tune, search=search), tmp_path)
    play(made)
    assert made.finished
    draws = Counter(trial.arm for trial in made.state.trials.values() if trial.phase == "search")
    assert draws == {"a": 5, "b": 1, "c": 1}
    assert {trial.arm for trial in made.state.trials.values() if trial.phase == "evidence"} == {"a", "b", "c"}


def test_a_draw_of_which_a_crash_planned_one_seed_gets_the_others(tmp_path: Path) -> None:
    search = {"algorithm": "tpe", "draws_per_arm": 2, "seeds": [7, 8]}
    plan = toy_plan(tmp_path, ablate={"model.kind": ["b"]}, tune=TUNE, search=search)
    made = controller(plan, tmp_path)
    assert made.next_trial() is not None
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert json.loads(lines[-1])["seed"] == 8
    path.write_text("".join(lines[:-1]))
    again = controller(plan, tmp_path)
    play(again)
    found = Counter((t.draw, t.seed) for t in again.state.trials.values() if t.phase == "search")
    assert found == {(draw, seed): 1 for draw in (0, 1) for seed in (7, 8)}


def test_where_too_few_draws_complete_the_furthest_of_the_stopped_follow(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search={"draws_per_arm": 4, "seeds": [0], "keep": 3}, scheduler=ASHA)
    made = controller(plan, tmp_path)
    play(made)
    assert made.finished
    for arm, draws in made.state.selected.items():
        assert len(draws) == 3
        search = {t.draw: t for t in made.state.trials.values() if t.arm == arm and t.phase == "search"}
        ranks = [(search[d].status == "pruned", -search[d].last["samples"]) for d in draws]
        assert [pruned for pruned, _ in ranks] == sorted(pruned for pruned, _ in ranks)
        stopped = [reached for pruned, reached in ranks if pruned]
        assert stopped == sorted(stopped)
    assert len([t for t in made.state.trials.values() if t.phase == "evidence"]) == 3 * 3 * 2


def test_a_metric_that_the_last_report_lacks_keeps_its_last_value(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search={"draws_per_arm": 1, "seeds": [0]})
    made = controller(plan, tmp_path)
    for trial in list(made.state.trials.values()):
        made.started(trial.trial_id)
        made.report(trial.trial_id, {"step": 1, "samples": 50, "accuracy": 0.5})
        made.report(trial.trial_id, {"step": 2, "samples": 100, "total": 3.0})
        made.ended(trial.trial_id, "completed")
        assert trial.last == {"step": 2, "samples": 100, "accuracy": 0.5, "total": 3.0}
    assert made.state.selected == {arm: [0] for arm in "abc"}


@pytest.mark.parametrize("algorithm", ["sobol", "random", "tpe"])
def test_a_conditional_value_is_drawn_only_where_it_applies(tmp_path: Path, algorithm: str) -> None:
    search = {"algorithm": algorithm, "draws_per_arm": 24, "seeds": [0]}
    base = {"lr": 0.5, "max_samples": 100}
    tune = {
        "lr": {"loguniform": [0.01, 1.0], "when": {"model.bonus": list(range(500))}},
        "model.bonus": {"int": [0, 1000]},  # so many that no trial comes twice
    }
    made = controller(toy_plan(tmp_path, base=base, tune=tune, search=search), tmp_path)
    play(made)
    assert made.finished
    draws = [trial for trial in made.state.trials.values() if trial.phase == "search"]
    with_lr = [trial for trial in draws if "lr" in trial.values]
    assert with_lr and len(with_lr) < len(draws)
    assert all((trial.values["model.bonus"] < 500) == ("lr" in trial.values) for trial in draws)
    starts = [e for e in read_journal(tmp_path / "journal.jsonl") if e["event"] == "start"]
    assert {e["config"]["lr"] for e in starts if e["config"]["model"]["bonus"] >= 500} == {0.5}


def test_a_condition_on_a_tuned_value_that_the_arm_does_not_have_looks_at_the_arm(tmp_path: Path) -> None:
    tune = {
        "model.bonus": {"choice": [0.0, 0.1], "when": {"model.kind": ["a"]}},
        "lr": {"loguniform": [0.01, 1.0], "when": {"model.bonus": [0.1]}},
    }
    plan = toy_plan(
        tmp_path, tune=tune, search={"draws_per_arm": 2}, base={"lr": 0.1, "model": {"bonus": 0.1}}
    )
    a, b, _ = plan.arms
    assert set(a.tune) == {"model.bonus", "lr"} and a.tune["lr"].when == {"model.bonus": [0.1]}
    assert set(b.tune) == {"lr"} and b.tune["lr"].when == {}  # its bonus is 0.1, and stays so


def test_an_optuna_study_tells_stopped_and_finished_draws_apart(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        tune=TUNE,
        search={"algorithm": "tpe", "draws_per_arm": 12, "seeds": [0]},
        scheduler=ASHA | {"scope": "arm", "audit": 0.5},
    )
    made = controller(plan, tmp_path)
    play(made)
    audited = set(made.stopping.audited)
    assert audited and set(made.stopping.stopped)
    for arm in plan.arms:
        study = TPESearch(plan, arm, made.state, made.stopping.decisions).study()
        assert len(study.trials) == 12
        for trial in study.trials:
            member = f"{arm.name}-d{trial.number}"
            decision = made.stopping.decisions.get(member)
            assert trial.state.name == ("PRUNED" if decision else "COMPLETE")
            if decision:  # what it did after the decision is not told
                assert trial.intermediate_values == {decision.rung: decision.value}


@pytest.mark.parametrize("scheduler", [ASHA, {"kind": "fixed", "scope": "sweep", "grace_period": 20}])
def test_a_decision_that_a_crash_came_before_is_written_when_the_sweep_goes_on(
    tmp_path: Path, scheduler: dict[str, Any]
) -> None:
    plan = toy_plan(tmp_path, scheduler=scheduler)
    made = controller(plan, tmp_path)
    play(made)
    path = tmp_path / "journal.jsonl"

    def decided() -> list[tuple[Any, ...]]:
        events = read_journal(path, name="decision")
        return [(e["member"], e["rung"], e["action"], e["value"]) for e in events]

    lines, whole = path.read_text().splitlines(keepends=True), decided()
    cuts = [number for number, line in enumerate(lines) if json.loads(line)["event"] == "decision"]
    assert cuts
    for cut in cuts:
        path.write_text("".join(lines[:cut]))
        again = controller(plan, tmp_path)
        found = decided()
        assert found == whole[: len(found)] and len(found) > cuts.index(cut)
        play(again)
        found = [each[:3] for each in decided()]
        assert len(found) == len(set(found))
        stopped = {member for member, _, action in found if action == "stop"}
        pruned = {t.trial_id.rsplit("-", 1)[0] for t in again.state.trials.values() if t.status == "pruned"}
        assert pruned <= stopped


def test_a_trial_that_breaks_off_is_tried_again_as_often_as_it_may_be(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, max_failures=2, ablate={"model.kind": ["b"]}, seeds=[1])
    made = controller(plan, tmp_path)
    for failures in range(3):
        made = controller(plan, tmp_path)  # a new launch has no new tries
        trial = made.next_trial()
        assert trial is not None and made.state.trials[trial.trial_id].failures == failures
        assert made.next_trial(exclude=[trial.trial_id]) is None
        made.started(trial.trial_id)
        made.failed(trial.trial_id, "broken")
    assert made.finished and made.state.trials["b-d0-s1"].status == "failed"
    made.failed("b-d0-s1", "broken again")  # a second word of the same death
    assert [event["event"] for event in read_journal(tmp_path / "journal.jsonl")].count("end") == 1


def test_all_seeds_of_an_audited_draw_are_marked_whichever_ended_first(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        ablate={"model.kind": ["b", "a", "c", "d"]},
        scheduler=ASHA | {"audit": 0.99},
        seeds=[1, 2, 3],
    )
    made = controller(plan, tmp_path)
    play(made, at_once=1)  # a seed after the other: the first ones have ended when the last one is judged
    assert made.state.audited
    frame = trials_frame(made.state, resolved(plan))
    marked = frame[frame.audited]
    assert {f"{row.arm}-d{row.draw}" for row in marked.itertuples()} == made.state.audited
    assert len(marked) == 3 * len(made.state.audited)
    assert made.stopping.audited.keys() == made.state.audited


def bare(plan: Plan, folder: Path, reported: dict[str, float], **launch: str) -> Controller:
    """A sweep every trial of which makes this one report and returns."""
    path = folder / "journal.jsonl"
    made = Controller(plan, Journal(path), list(read_journal(path)))
    made.begin(**launch)
    while (trial := made.next_trial()) is not None:
        made.started(trial.trial_id)
        made.report(trial.trial_id, {"step": 1, "samples": 10, **reported})
        made.ended(trial.trial_id, "completed")
    return made


def test_a_trial_that_never_reports_the_objective_has_failed(tmp_path: Path) -> None:
    made = bare(toy_plan(tmp_path), tmp_path, {"acuracy": 0.5, "total": 1.0})
    assert statuses(made.state) == {"failed": 6}
    reasons = {trial.reason for trial in made.state.trials.values()}
    assert reasons == {"it never reported the objective, accuracy; it reported acuracy, total"}


def test_a_trial_that_ends_before_the_first_rung_is_told(tmp_path: Path) -> None:
    made = bare(toy_plan(tmp_path, scheduler=ASHA), tmp_path, {"accuracy": 0.5})
    assert len(made.state.warnings) == 6
    assert "ended at 10 samples, before the first rung at 20" in made.state.warnings[0]


def test_code_that_changed_between_launches_is_told(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path)
    assert bare(plan, tmp_path, {"accuracy": 0.5}, code="0.1+a").state.warnings == []
    assert bare(plan, tmp_path, {"accuracy": 0.5}, code="0.1+a").state.warnings == []
    (warning,) = bare(plan, tmp_path, {"accuracy": 0.5}, code="0.1+b").state.warnings
    assert "0.1+a, now 0.1+b" in warning


class _NotWalked(dict[str, Any]):
    """Its items can be looked up, but not walked over."""

    def __iter__(self) -> Any:
        raise AssertionError("all trials are walked over")

    def values(self) -> Any:
        raise AssertionError("all trials are walked over")

    items = keys = values


@pytest.mark.parametrize(
    "changes",
    [
        {"tune": TUNE, "search": {"draws_per_arm": 40, "seeds": [0]}, "scheduler": ASHA},
        {"tune": TUNE, "search": {"algorithm": "tpe", "draws_per_arm": 40, "seeds": [0]}},
        {"seeds": list(range(1, 13))},
    ],
    ids=["search", "tpe", "looks"],
)
def test_no_event_of_a_trial_walks_over_all_trials(tmp_path: Path, changes: dict[str, Any]) -> None:
    made = controller(toy_plan(tmp_path, **changes), tmp_path)
    made.state.trials, made.state.open = _NotWalked(made.state.trials), _NotWalked(made.state.open)
    metric = made.plan.spec.objective.metric
    for _ in range(8):
        trial = made.next_trial()
        assert trial is not None
        made.started(trial.trial_id)
        assert made.report(trial.trial_id, {"step": 1, "samples": 10, metric: 0.5})
        made.ended(trial.trial_id, "completed")
        assert not made.finished and not made.must_stop
