"""From a search space to trials; and the search spaces that come with the project."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.observe.cost import trial_cost
from sweeps.plan.build import load_plan
from sweeps.plan.model import Plan, TrialPlan
from tests.conftest import ROOT
from tests.sweeps.spaces import ASHA, TUNE, toy_plan, write_space

SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))


def ids(trials: list[TrialPlan]) -> list[str]:
    return [trial.trial_id for trial in trials]


def test_a_trial_is_an_arm_a_draw_and_a_seed(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate={"model.kind": ["a", "b"]})
    assert ids(plan.first_trials()) == ["a-d0-s1", "a-d0-s2", "b-d0-s1", "b-d0-s2"]
    assert {trial.phase for trial in plan.first_trials()} == {"evidence"}
    assert [trial.config["model"]["kind"] for trial in plan.first_trials()] == ["a", "a", "b", "b"]


def test_a_search_runs_each_arms_draws_on_its_own_seeds_a_draw_of_every_arm_after_the_other(
    tmp_path: Path,
) -> None:
    search = {"draws_per_arm": 2, "seeds": [7, 8]}
    plan = toy_plan(tmp_path, ablate={"model.kind": ["a", "b"]}, tune=TUNE, search=search)
    trials = plan.first_trials()
    assert ids(trials) == [f"{arm}-d{draw}-s{seed}" for draw in (0, 1) for arm in "ab" for seed in (7, 8)]
    assert {trial.phase for trial in trials} == {"search"}
    assert all(trial.config["lr"] == trial.values["lr"] for trial in trials)
    b = plan.arms[1]
    evidence = [plan.trial(b, plan.draws(b)[1], seed, "evidence") for seed in plan.evidence_seeds("b")]
    assert ids(evidence) == ["b-d1-s1", "b-d1-s2"] and {trial.phase for trial in evidence} == {"evidence"}


def test_with_a_scheduler_and_nothing_to_tune_all_is_search(tmp_path: Path) -> None:
    assert {trial.phase for trial in toy_plan(tmp_path, scheduler=ASHA).first_trials()} == {"search"}


def test_draws_of_tpe_are_not_known_beforehand_but_their_number_is(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search={"algorithm": "tpe", "draws_per_arm": 20})
    assert plan.first_trials() == []
    assert [plan.number_of_draws(arm) for arm in plan.arms] == [20, 20, 20]


@pytest.mark.parametrize("algorithm", ["sobol", "random", "grid"])
def test_every_arm_gets_the_same_draws_of_what_applies_to_it(tmp_path: Path, algorithm: str) -> None:
    choice = {"choice": [0.1, 0.2, 0.3, 0.4]} if algorithm == "grid" else {"uniform": [0.1, 0.4]}
    bonus = {"int": [0, 3], "when": {"model.kind": ["b", "c"]}}
    search = {"algorithm": algorithm} | ({} if algorithm == "grid" else {"draws_per_arm": 4})
    plan = toy_plan(tmp_path, tune={"lr": choice, "model.bonus": bonus}, search=search)
    a, b, c = ([draw.values for draw in plan.draws(arm)] for arm in plan.arms)
    assert b == c and set(a[0]) == {"lr"} and set(b[0]) == {"lr", "model.bonus"}
    if algorithm == "grid":
        assert (len(a), len(b)) == (4, 16)
    else:
        assert [values["lr"] for values in a] == [values["lr"] for values in b]


def test_an_arm_to_which_nothing_tuned_applies_has_one_draw(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune={"lr": {"uniform": [0.1, 0.4], "when": {"model.kind": ["b"]}}})
    assert [plan.number_of_draws(arm) for arm in plan.arms] == [1, 8, 1]


def test_max_t_is_the_horizon_of_every_trial(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, scheduler=ASHA | {"max_t": 60})
    assert plan.horizon == 60
    assert {trial.config["max_samples"] for trial in plan.first_trials()} == {60}


@pytest.mark.parametrize(("changes", "scope"), [({"tune": TUNE}, "arm"), ({}, "sweep")])
def test_what_the_scheduler_is_not_told_is_filled_in(
    tmp_path: Path, changes: dict[str, Any], scope: str
) -> None:
    scheduler = toy_plan(tmp_path, scheduler={"kind": "asha", "grace_period": 20}, **changes).spec.scheduler
    assert (scheduler.scope, scheduler.metric, scheduler.mode) == (scope, "accuracy", "max")
    assert scheduler.max_t == 100  # the base's


def test_set_goes_into_the_base_and_factors_go_over_it(tmp_path: Path) -> None:
    plan = load_plan(write_space(tmp_path), ["lr=0.3"])
    assert plan.spec.base["lr"] == 0.3
    assert [arm.config["model"]["kind"] for arm in plan.arms] == ["a", "b", "c"]
    assert {arm.config["lr"] for arm in plan.arms} == {0.3}


def test_relative_files_are_taken_from_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def data(test: str) -> dict[str, str]:
        return {"task": "sudoku", "source": "csv", "train": "train.csv", "test": test}

    for folder in ("space/bases", "cwd"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "space" / "bases" / "b.yaml").write_text(yaml.safe_dump({"data": data("test.csv")}))
    space = write_space(
        tmp_path / "space",
        trainer="trm.trainer:train",
        base="bases/b.yaml",
        objective={"metric": "val/loss", "mode": "min"},
        ablate={"data.val": ["one.csv", "/two.csv"]},
    )
    monkeypatch.chdir(tmp_path / "cwd")
    (arm, other) = load_plan(space, ["data.test=other.csv"]).arms
    assert arm.config["data"]["train"] == str(tmp_path / "space" / "bases" / "train.csv")
    assert arm.config["data"]["val"] == str(tmp_path / "space" / "one.csv")
    assert arm.config["data"]["test"] == str(tmp_path / "cwd" / "other.csv")
    assert other.config["data"]["val"] == "/two.csv"


@pytest.fixture(scope="module")
def shipped() -> dict[str, Plan]:
    return {path.stem: load_plan(path) for path in SPACES}


@pytest.mark.parametrize("name", [path.stem for path in SPACES])
def test_a_search_space_of_the_project_is_planned(shipped: dict[str, Plan], name: str) -> None:
    plan = shipped[name]
    assert len(plan.arms) >= 3 and plan.spec.name == name
    for arm in plan.arms:
        assert arm.num_params and arm.flops_per_sample
        trial = plan.trial(arm, plan.draws(arm)[0], plan.evidence_seeds(arm.name)[0], "evidence")
        config = plan.trainer.config_model.model_validate(trial.config)
        known = plan.trainer.describe(config)
        if plan.spec.scheduler.stops:
            rungs = plan.spec.scheduler.build().rungs()
            assert rungs and min(rungs) > known["warmup_samples"]
            assert plan.spec.scheduler.metric == "val/cell_accuracy"  # exact accuracy is 0 for long
        horizon = plan.horizon or arm.horizon  # of equal FLOPs each arm has its own
        assert horizon and known["warmup_samples"] < horizon == trial.config["train"]["max_samples"]


def test_the_published_sizes(shipped: dict[str, Plan]) -> None:
    millions = {arm.name: round(arm.num_params / 1e6, 2) for arm in shipped["mixers"].arms}
    assert millions["attention"] == 6.83 and millions["mlp"] == 5.03
    said = f"({millions['attention']}M parameters with attention, {millions['mlp']}M with the MLP mixer)"
    assert said in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/search_spaces.md"])
def test_the_search_space_of_the_documentation_is_one(tmp_path: Path, page: str) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    shutil.copytree(ROOT / "search_spaces" / "base", tmp_path / "base")
    (tmp_path / "mixers.yaml").write_text(text)
    plan = load_plan(tmp_path / "mixers.yaml")
    assert plan.spec.name == "mixers" and {arm.name.split("+")[0] for arm in plan.arms} == {
        "attention",
        "mlp",
        "mamba",
        "mamba2",
    }


def test_each_arm_has_the_length_that_its_factors_give_it(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, ablate={"max_samples": [100, 300]})
    assert [arm.horizon for arm in plan.arms] == [100, 300] and plan.horizon is None
    assert [trial_cost(arm, {}).samples for arm in plan.arms] == [100, 300]
    tuned = toy_plan(tmp_path, tune={"max_samples": {"choice": [100, 200]}}, search={"draws_per_arm": 1})
    assert [arm.horizon for arm in tuned.arms] == [None] * 3  # it differs by draw
