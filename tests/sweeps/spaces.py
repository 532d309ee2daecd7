"""Search spaces over the toy trainer, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.plan.build import load_plan
from sweeps.plan.model import Plan
from sweeps.space.errors import SpecError
from tests.sweeps import toy_trainer

TOY: dict[str, Any] = {
    "name": "toy",
    "trainer": "tests.sweeps.toy_trainer:train",
    "base": {"lr": 0.1, "max_samples": 100},
    "objective": {"metric": "accuracy", "mode": "max"},
    "ablate": {"model.kind": ["a", "b", "c"]},
    "seeds": [1, 2],
    "resources": {"cpu": 1},
}
ASHA = {"kind": "asha", "scope": "sweep", "grace_period": 20, "max_t": 100, "reduction_factor": 2}
TUNE = {"lr": {"loguniform": [0.01, 1.0]}}

COSTS = {"a": 100, "b": 50, "c": 200}  # FLOPs a sample, for tests of equal training FLOPs


def set_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the toy's arms differ in their FLOPs a sample, by COSTS."""

    def describe(config: toy_trainer.ToyConfig) -> dict[str, Any]:
        return known(config) | {"flops_per_sample": COSTS[config.model.kind]}

    known = toy_trainer.describe
    monkeypatch.setattr(toy_trainer, "describe", describe)


def write_space(folder: Path, **changes: Any) -> Path:
    """TOY with some keys changed (None: left out), as a file."""
    space = {key: value for key, value in {**TOY, **changes}.items() if value is not None}
    path = folder / f"{space.get('name', 'space')}.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    return path


def toy_plan(folder: Path, **changes: Any) -> Plan:
    return load_plan(write_space(folder, **changes))


def check_refused(space: Path, words: list[str]) -> None:
    """The space cannot be planned, and the message names its file and has all of these words."""
    with pytest.raises(SpecError) as error:
        load_plan(space)
    assert str(error.value).startswith(str(space))
    for word in words:
        assert word in str(error.value)
