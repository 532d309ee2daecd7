"""Trainers by their names, and what their configs take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from sweeps.plan.checks import check_data
from sweeps.plan.trainer import Trainer, import_trainer
from sweeps.space.errors import SpecError
from tests.sweeps.spaces import toy_plan
from tests.sweeps.toy_trainer import ToyConfig, train

TOY_TRAINER = "tests.sweeps.toy_trainer:train"

MINE = """
from __future__ import annotations
from pydantic import BaseModel

class Config(BaseModel, extra="forbid"):
    lr: float
    steps: int = 10

def train(settings: Config, trial): ...
"""


def test_a_trainer_is_its_function_its_config_and_what_its_module_says() -> None:
    toy = import_trainer(TOY_TRAINER)
    assert toy.function is train and toy.config_model is ToyConfig
    assert toy.describe(ToyConfig())["num_params"] == 7
    toy.check(ToyConfig())  # it has none, so nothing is wrong


def test_trms_own_trainer_is_one_like_any_other() -> None:
    trm = import_trainer("trm.trainer:train")
    known = trm.describe(trm.configure({}, [], "base"))
    assert known["horizon_key"] == "train.max_samples"
    assert {"val/exact_accuracy", "val/cell_accuracy"} <= set(known["metrics"])


def test_a_module_beside_the_launch_is_found_and_may_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_trainer.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    mine = import_trainer("my_trainer:train")
    assert mine.describe(mine.configure({"lr": 1}, [], "base")) == {}
    with pytest.raises(SpecError, match="lr: is required: add it"):
        mine.configure({}, [], "base")


def test_a_config_is_the_base_with_settings_and_the_base_stays_as_it_is() -> None:
    toy, base = import_trainer(TOY_TRAINER), {"model": {"kind": "b"}, "lr": 0.1}
    config = toy.configure(base, [("model.bonus", 1), ("lr", 0.2), ("nan_at", 3)], "here")
    assert config == ToyConfig.model_validate({"model": {"kind": "b", "bonus": 1}, "lr": 0.2, "nan_at": 3})
    assert base == {"model": {"kind": "b"}, "lr": 0.1}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (("lrr", 1), "lrr: unknown key .*did you mean lr?"),
        (("lr", "off"), "lr: must be a valid number.*'off'"),
        (("lr.x", 1), r"lr\.x: lr is 0.1, which has no keys"),
        (("model.kind", "z"), r"model\.kind: must be 'a'.*'z'"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_with_its_source(
    setting: tuple[str, object], words: str
) -> None:
    with pytest.raises(SpecError, match=f"^toy.yaml: arm a: {words}"):
        import_trainer(TOY_TRAINER).configure({"lr": 0.1}, [setting], "toy.yaml: arm a")


def test_data_is_looked_at_once_for_each_that_the_trials_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        MINE.replace("steps: int = 10", "data: str = 'x'")
        + "looked = []\ncheck = lambda c: looked.append(c.data)"
    )
    (tmp_path / "looks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    plan = toy_plan(
        tmp_path, trainer="looks:train", base={"lr": 1}, ablate={"data": ["x", "y"], "lr": [1, 2, 3]}
    )
    check_data(plan)
    assert sys.modules["looks"].looked == ["x", "y"]


def test_a_metric_of_a_trainer_that_names_none_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names_none.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    objective = {"metric": "any/thing", "mode": "min"}
    plan = toy_plan(
        tmp_path, trainer="names_none:train", base={"lr": 1}, ablate={"lr": [1, 2]}, objective=objective
    )
    assert plan.horizon is None and plan.arms[0].num_params is None


def test_the_remedy_is_not_the_very_name_that_is_refused() -> None:
    with pytest.raises(SpecError, match="ROWS") as error:
        import_trainer("tests.sweeps.toy_trainer:ROWS")
    assert "did you mean ROWS?" not in str(error.value)


def test_an_unknown_key_is_refused_though_the_model_would_pass_it_over() -> None:
    class Inner(BaseModel):
        width: int = 1

    class Outer(BaseModel):
        steps: int = 20
        inner: Inner = Inner()

    def train(config: Outer, trial: object) -> None: ...

    trainer = Trainer("x:train", train, Outer, lambda config: {}, lambda config: None)
    assert trainer.configure({"steps": 3, "inner": {"width": 2}}, [], "x.yaml").steps == 3
    with pytest.raises(SpecError, match=r"x.yaml: stepz: unknown key \(given 10\): did you mean steps"):
        trainer.configure({"stepz": 10}, [], "x.yaml")
    with pytest.raises(SpecError, match=r"inner.widht: unknown key .*did you mean inner.width"):
        trainer.configure({}, [("inner.widht", 3)], "x.yaml")
