"""The simulation of decisions: its truth, its bookkeeping, and that its statistics are the report's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.compare.ranking import ALPHA, rank_arms
from analysis.sweep import Sweep
from benchmarks.decisions import HERE, _values, make_plans, simulate
from benchmarks.simulated import MemoryJournal, conclude, make_plan, play
from benchmarks.truth import Setup, draw_truth, load_setup
from sweeps.decide.controller import Controller
from sweeps.record.tables import trials_frame
from trm.settings.yaml import dump_yaml, load_yaml

FILE = HERE / "decisions.yaml"
BROKEN = {"share": 0.3, "between": [0.2, 1.0], "diverged": 0.5, "floor": 2.0}


def changed(
    tmp_path: Path,
    policies: bool = True,
    space: dict[str, Any] | None = None,
    full: dict[str, Any] | None = None,
    **truth: Any,
) -> Setup:
    """The data file with some keys of `truth`, `space` and `full` changed."""
    content = load_yaml(FILE)
    content["truth"] |= truth
    content["space"] |= space or {}
    content["full"] |= full or {}
    if not policies:
        content["policies"] = {}
        content.pop("ray")
    path = tmp_path / "truth.yaml"
    path.write_text(dump_yaml(content))
    return load_setup(path)


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # Ray's, at a rung where every run has diverged
def test_the_same_seed_gives_the_same_table_and_another_does_not(tmp_path: Path) -> None:
    scenarios = {"no_effect": {}, "broken": {"collapse": BROKEN}}
    setup = changed(tmp_path, correlations=[0.6], scenarios=scenarios)
    once, again, other = (list(simulate(setup, 2, seed)) for seed in (5, 5, 6))
    assert once == again
    assert once != other


def test_without_noise_every_policy_finds_the_best_arm(tmp_path: Path) -> None:
    world = load_setup(FILE).truth
    scenarios = {name: world.scenarios[name].model_dump() for name in ("main", "interaction")}
    calm = {"seed_sd": 1e-6, "correlations": [1.0], "tuned": {"drop": 4, "optimum": [0.4, 0.6]}}
    rows = list(simulate(changed(tmp_path, scenarios=scenarios, **calm), 5, 0))
    assert len({row["policy"] for row in rows}) >= 5
    assert all(row["right"] == 1.0 for row in rows)


@pytest.mark.parametrize("looks", ["none", "auto"])
def test_where_tuning_does_not_matter_claims_keep_to_alpha(tmp_path: Path, looks: str) -> None:
    flat = {"scenarios": {"no_effect": {}}, "tuned": {"drop": 0, "optimum": [0.5, 0.5]}}
    space = {"search": {"draws_per_arm": 2, "seeds": [0]}, "evidence": {"futility": 0.02}}
    setup = changed(tmp_path, policies=False, space=space, full={"evidence": {"looks": looks}}, **flat)
    rows = list(simulate(setup, 60, 1))
    rate = np.mean([row["false"] for row in rows])
    assert rate <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / 180)
    assert all((row["samples"] == 1.0) == (looks == "none") for row in rows)


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.9])
def test_runs_show_early_what_the_file_says(correlation: float) -> None:
    world = load_setup(FILE).truth
    drawn = [
        draw_truth(
            world, "main", correlation, [0, 1, 2, 3], np.linspace(0, 1, 16), 8, 20, np.random.default_rng(k)
        )
        for k in range(40)
    ]
    assert np.mean([truth.correlation for truth in drawn]) == pytest.approx(correlation, abs=0.03)
    finals = np.stack([truth.curves[..., -1] for truth in drawn])
    noise = finals - finals.mean(axis=-1, keepdims=True)  # over the eight seeds of a draw
    assert noise.std() * np.sqrt(8 / 7) == pytest.approx(1.3, rel=0.03)


def test_who_leads_early_is_behind_at_the_end_where_curves_cross() -> None:
    world = load_setup(FILE).truth
    truth = draw_truth(
        world, "crossing", 0.9, [0, 1.5, 2, 3.5], np.linspace(0, 1, 16), 50, 20, np.random.default_rng(0)
    )
    early, late = (truth.curves[..., index].mean(axis=(1, 2)) for index in (1, -1))
    assert early.argmax() == 0 or early[0] > early[3]
    assert late.argmax() == truth.best == 3


@pytest.mark.parametrize("keep", [1, 2])
def test_the_outcome_says_what_the_report_would(keep: int) -> None:
    """`conclude` against the project's ranking, with missing runs among the seeds."""
    setup = load_setup(FILE)
    plan = make_plan(setup.space, {"search": {"draws_per_arm": 4, "keep": keep}}, "few")
    rng, claimed = np.random.default_rng(3), 0
    for gap in (0.0, 0.02, 0.03, 0.06):
        journal = MemoryJournal()
        controller = Controller(plan, journal)
        controller.begin()
        while (trial := controller.next_trial()) is not None:
            controller.started(trial.trial_id)
            value = 0.7 + 0.01 * rng.standard_normal() + gap * (trial.config["mixer"] == "new")
            controller.report(trial.trial_id, {"step": 1, "samples": 1000, "accuracy": value})
            is_lost = trial.phase == "evidence" and rng.random() < 0.05
            controller.ended(trial.trial_id, "failed" if is_lost else "completed")
        space = {
            "objective": {"metric": "accuracy", "mode": "max"},
            "resolved": {
                "baseline": plan.baseline,
                "identity": plan.identity,
                "arms": {
                    arm.name: {"levels": arm.levels, "num_params": None, "flops_per_sample": None}
                    for arm in plan.arms
                },
            },
        }
        trials = trials_frame(controller.state, space).assign(wall_s=0.0)
        events = tuple(event for event in journal.events if event["event"] in ("stage", "look"))
        ranked = rank_arms(Sweep(trials, *[pd.DataFrame()] * 2, space, events=events)).set_index("arm")
        named, claims = conclude(controller.state, plan)
        assert named is not None and plan.arms[named].name == ranked.index[0]
        signs = {"better": 1, "worse": -1}
        assert list(claims) == [signs.get(ranked["verdict"][arm.name], 0) for arm in plan.arms]
        claimed += int(np.abs(claims).sum())
    assert claimed


def test_stopping_spends_less_and_the_evidence_is_never_stopped(tmp_path: Path) -> None:
    setup = load_setup(FILE)
    plans = make_plans(setup)
    values = np.array([draw.values["x"] for draw in plans["full"].draws(plans["full"].arms[0])])
    truth = draw_truth(setup.truth, "main", 0.6, [0, 1.5, 2, 3.5], values, 10, 20, np.random.default_rng(0))
    spent = {name: play(plan, truth, setup.workers).samples for name, plan in plans.items()}
    assert spent["full"] == 4 * 16 + 4 * 8
    assert spent["full_looks"] < spent["full"]
    searched = {name: 4 * len(_values(plan)) for name, plan in plans.items()}
    assert all(4 * 3 < spent[name] < searched[name] + 4 * 8 for name in set(plans) - {"full"})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seed_sd", -1, "truth.seed_sd"),
        ("correlations", [1.5], "truth.correlations"),
        ("sed_sd", 1, "did you mean truth.seed_sd"),
        ("early", {"at": 0.1}, "truth.early.shared"),
        ("tuned", {"drop": 1, "optimum": [0.9, 0.1]}, "swap them"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, key: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        changed(tmp_path, **{key: value})


def test_a_policy_may_not_change_the_arms(tmp_path: Path) -> None:
    setup = load_setup(FILE)
    strange = setup.model_copy(update={"policies": {"odd": {"ablate": {"mixer": ["new"]}}}})
    with pytest.raises(ValueError, match=r"policies\.odd\.ablate"):
        make_plans(strange)


def test_what_is_wrong_with_a_policy_is_said_by_its_name() -> None:
    setup = load_setup(FILE)
    strange = setup.model_copy(update={"policies": {"odd": {"scheduler": {"kind": "asha"}}}})
    with pytest.raises(ValueError, match=r"the plan of policy odd.*grace_period"):
        make_plans(strange)
