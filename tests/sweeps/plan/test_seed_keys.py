"""`seed_keys`: a trial's seed redraws its data too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.plan.build import load_plan
from sweeps.plan.checks import check_data
from sweeps.plan.identity import resolved
from sweeps.space.errors import SpecError
from tests.conftest import ROOT
from tests.sweeps.seeded_trainer import SeededConfig
from tests.sweeps.spaces import toy_plan, write_space

SEEDED: dict[str, Any] = {
    "trainer": "tests.sweeps.seeded_trainer:train",
    "base": {},
    "ablate": {"model.kind": ["a", "b"]},
    "seed_keys": ["data.seed"],
}


def test_each_trial_has_its_seed_in_its_config_and_seeds_are_paired(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, **SEEDED, seeds=[3, 4])
    trials = plan.first_trials()
    assert [(trial.seed, trial.config["data"]["seed"]) for trial in trials] == [(3, 3), (4, 4)] * 2
    assert plan.rule is not None and plan.rule.pairing == "paired"
    assert resolved(plan)["seed_keys"] == ["data.seed"]


def test_in_the_search_too(tmp_path: Path) -> None:
    tuned = {"tune": {"lr": {"uniform": [0.1, 0.2]}}, "search": {"draws_per_arm": 2, "seeds": [0, 9]}}
    plan = toy_plan(tmp_path, **SEEDED, **tuned)
    assert {(trial.seed, trial.config["data"]["seed"]) for trial in plan.first_trials()} == {(0, 0), (9, 9)}


def test_the_pairing_that_is_given_stands(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, **SEEDED, evidence={"pairing": "unpaired"})
    assert plan.rule is not None and plan.rule.pairing == "unpaired"


def test_the_data_of_every_seed_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []

    def check(config: SeededConfig) -> str:
        checked.append(config.data.seed)
        return f"hash-of-{config.data.seed}"

    monkeypatch.setattr("tests.sweeps.seeded_trainer.check", check)
    tuned = {"tune": {"lr": {"uniform": [0.1, 0.2]}}, "search": {"draws_per_arm": 8, "seeds": [0]}}
    assert check_data(toy_plan(tmp_path, **SEEDED, **tuned, seeds=[1, 2])) == "hash-of-1 hash-of-2 hash-of-0"
    assert checked == [1, 2, 0]
    checked.clear()
    more = {"pairing": "unpaired", "baseline_seeds": [8]}
    check_data(toy_plan(tmp_path, **SEEDED, seeds=[1, 2], evidence=more))
    assert checked == [1, 2, 8]
    checked.clear()
    assert check_data(toy_plan(tmp_path, **{**SEEDED, "seed_keys": []})) == "hash-of-0"
    assert checked == [0]


def test_data_of_one_seed_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="data: no rows are left with seed 13"):
        check_data(toy_plan(tmp_path, **SEEDED, seeds=[1, 13]))


def test_arms_that_differ_in_the_seed_alone_are_the_same_arm(tmp_path: Path) -> None:
    levels = {"x": {"data": {"seed": 1}}, "y": {"data": {"seed": 2}}}
    with pytest.raises(SpecError, match="changes nothing between the arms"):
        toy_plan(tmp_path, **{**SEEDED, "ablate": {"rows": {"levels": levels}}})


def test_the_key_by_which_arms_are_matched_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.sweeps.seeded_trainer.describe",
        lambda config: {"metrics": ["accuracy"], "num_params": config.data.seed + 1},
    )
    with pytest.raises(SpecError, match=r"takes the trial's seed, but match.by sets data.seed: remove"):
        toy_plan(tmp_path, **SEEDED | {"base": {"data": {"seed": 1}}}, match={"params": 6, "by": "data.seed"})


def test_trms_boards_are_redrawn(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        trainer="trm.trainer:train",
        base=str(ROOT / "search_spaces" / "base" / "smoke_4x4.yaml"),
        objective={"metric": "val/exact_accuracy", "mode": "max"},
        ablate={"optim.lr": [1e-3, 2e-3]},
        seed_keys=["data.seed"],
    )
    plan = load_plan(space)
    configs = [plan.trainer.config_model.model_validate(trial.config) for trial in plan.first_trials()]
    assert [config.data.seed for config in configs] == [1, 2, 1, 2]  # type: ignore[attr-defined]
    train = [config.data.load().train.inputs for config in configs[:2]]  # type: ignore[attr-defined]
    assert train[0].shape == train[1].shape and (train[0] != train[1]).any()
    check_data(plan)
