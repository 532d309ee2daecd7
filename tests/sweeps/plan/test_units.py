"""The units of metrics: where they come from, and which contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.plan.identity import resolved
from sweeps.plan.units import contradiction
from sweeps.space.errors import SpecError
from tests.sweeps.spaces import TUNE, toy_plan
from tests.sweeps.toy_trainer import ToyConfig, describe

Says = Callable[..., None]
OBJECTIVE = {"metric": "accuracy", "mode": "max"}


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Let the toy's describe() return these values too."""

    def change(**more: Any) -> None:
        monkeypatch.setattr(
            "tests.sweeps.toy_trainer.describe", lambda config: describe(config) | {"metrics": [], **more}
        )

    return change


def test_a_unit_is_never_taken_from_a_name(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path)
    assert plan.spec.objective.unit == "none" and plan.units == {"accuracy": "none"}


def test_the_unit_of_the_yaml_is_also_that_of_the_metric_on_test(tmp_path: Path, says: Says) -> None:
    says()
    objective = {"metric": "val/accuracy", "mode": "max", "unit": "percent"}
    plan = toy_plan(tmp_path, objective=objective)
    assert plan.units == {"val/accuracy": "percent", "test/accuracy": "percent"}
    space = resolved(plan)
    assert space["objective"] == objective and space["resolved"]["units"] == plan.units


def test_without_one_the_unit_is_the_trainers(tmp_path: Path, says: Says) -> None:
    says(units={"accuracy": "share", "total": "percent"})
    plan = toy_plan(tmp_path)
    assert plan.spec.objective.unit == "share" and plan.units == {"accuracy": "share", "total": "percent"}
    assert toy_plan(tmp_path, objective=OBJECTIVE | {"unit": "share"}).units == plan.units


def test_the_unit_is_part_of_the_identity_whoever_gave_it(tmp_path: Path, says: Says) -> None:
    """Its limits count in what is claimed of runs that diverged."""
    plain, share = toy_plan(tmp_path), toy_plan(tmp_path, objective=OBJECTIVE | {"unit": "share"})
    assert plain.identity["objective"] == OBJECTIVE | {"unit": "none"} and plain.hash != share.hash
    says(units={"accuracy": "share"})
    assert toy_plan(tmp_path).hash == share.hash


def test_trms_trainer_gives_shares(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        trainer="trm.trainer:train",
        base={"data": {"size": 4}},
        objective={"metric": "val/exact_accuracy", "mode": "max"},
        ablate={"model.halt_max_steps": [4, 5]},
    )
    assert plan.spec.objective.unit == "share" and "val/loss" not in plan.units
    arms = {"test/exact_accuracy_at_4", "test/exact_accuracy_at_5"}  # one of them only in one arm
    assert {plan.units[name] for name in arms | {"test/q_auroc", "test/exact_accuracy"}} == {"share"}


@pytest.mark.parametrize("unit", ["percent", "none"])
def test_a_yaml_that_contradicts_the_trainer_is_refused(tmp_path: Path, says: Says, unit: str) -> None:
    says(units={"accuracy": "share"})
    words = f"objective.unit is {unit}, but describe.. of .* gives accuracy the unit share: correct"
    with pytest.raises(SpecError, match=words):
        toy_plan(tmp_path, objective=OBJECTIVE | {"unit": unit})


def test_a_trainer_that_gives_val_and_test_other_units_is_refused(tmp_path: Path, says: Says) -> None:
    says(units={"val/accuracy": "percent", "test/accuracy": "share"})
    with pytest.raises(
        SpecError, match=r"val/accuracy has the unit percent, but .* test/accuracy the unit share"
    ):
        toy_plan(tmp_path, objective={"metric": "val/accuracy", "mode": "max"})


def test_a_trainer_that_gives_arms_other_units_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(config: ToyConfig) -> dict[str, Any]:
        return describe(config) | {"units": {"total": "share" if config.model.kind == "a" else "none"}}

    monkeypatch.setattr("tests.sweeps.toy_trainer.describe", changing)
    with pytest.raises(SpecError, match="gives total the unit share in one arm, and none in another"):
        toy_plan(tmp_path)


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ({"accuracy": "percents"}, "gives accuracy the unit 'percents': give one of share, percent, none"),
        (["accuracy"], "returns units .'accuracy'.: return a dict of metric and unit"),
    ],
)
def test_a_unit_of_the_trainer_that_nobody_knows_is_refused(
    tmp_path: Path, says: Says, units: Any, words: str
) -> None:
    says(units=units)
    with pytest.raises(SpecError, match=words):
        toy_plan(tmp_path)


def test_a_margin_as_wide_as_the_metric_is_refused(tmp_path: Path) -> None:
    objective = OBJECTIVE | {"unit": "share"}
    with pytest.raises(
        SpecError, match=r"evidence.margin: is 1, but accuracy is a share \(0 to 1\).*0.01 is one"
    ):
        toy_plan(tmp_path, objective=objective, evidence={"margin": 1})
    with pytest.raises(SpecError, match=r"evidence.futility: is 2, but accuracy is a share"):
        toy_plan(tmp_path, objective=objective, evidence={"futility": 2})
    assert toy_plan(tmp_path, objective=objective, evidence={"margin": 0.5}).units
    assert toy_plan(tmp_path, objective=objective | {"unit": "percent"}, evidence={"margin": 1}).units
    assert toy_plan(tmp_path, evidence={"margin": 1000}).units


def test_an_objective_with_the_name_of_a_tuned_value_is_refused(tmp_path: Path, says: Says) -> None:
    says()
    with pytest.raises(SpecError, match=r"objective.metric: 'lr' is also the name of tune.lr"):
        toy_plan(tmp_path, tune=TUNE, objective={"metric": "lr", "mode": "max"})


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (93, "share", "is 93, but objective.unit is share (0 to 1): set unit: percent"),
        (-0.1, "share", "is -0.1, but objective.unit is share (0 to 1): set unit: none"),
        (100.5, "percent", "is 100.5, but objective.unit is percent (0 to 100): set unit: none"),
    ],
)
def test_a_value_that_its_unit_cannot_have(value: float, unit: str, words: str) -> None:
    assert contradiction("val/accuracy", value, unit, False) == f"val/accuracy {words}"
    assert "let describe() give" in contradiction("val/accuracy", value, unit, True)


@pytest.mark.parametrize(
    ("value", "unit"),
    [(1 + 1e-12, "share"), (-1e-12, "share"), (93, "percent"), (-7e9, "none"), (float("nan"), "share")],
)
def test_rounding_and_values_within_the_limits_pass(value: float, unit: str) -> None:
    assert contradiction("val/accuracy", value, unit, False) == ""
