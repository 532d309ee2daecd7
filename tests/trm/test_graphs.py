"""What torch.compile and CUDA graphs need: few graphs, none for a second trial, tensors that stay put."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.trm.mixers.conformance import small
from tests.trm.test_trainer import FakeTrial, make_config
from trm.device import _MOST_GRAPHS
from trm.loop import Trainer
from trm.mixers import MIXERS

A_NETWORK = 3  # without gradients; with gradients of the weights; and where the states have gradients too


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.trm.graphs` found."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.trm.graphs"], cwd=tmp_path_factory.mktemp("graphs"),
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=380,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.faults  # a minute and a half of compiling
@pytest.mark.timeout(400)
def test_every_shipped_recipe_has_few_graphs_and_a_second_trial_none(compiled: dict[str, Any]) -> None:
    names = {path.stem for path in (ROOT / "search_spaces/base").glob("*.yaml")}
    assert names <= set(compiled["recipes"]) and not compiled["breaks"]
    for name, (graphs, networks, again) in compiled["recipes"].items():
        assert graphs <= A_NETWORK * networks, f"{name}: {graphs} graphs for {networks} networks"
        assert again == 0, f"{name}: a second model of the same shape compiles {again} graphs"
    of_all = sum(graphs for graphs, *_ in compiled["recipes"].values())
    assert 0 < of_all <= compiled["limit"] == _MOST_GRAPHS


@pytest.mark.faults  # a minute and a half of compiling
@pytest.mark.timeout(400)
def test_a_graph_that_cannot_be_compiled_loses_no_trial(compiled: dict[str, Any]) -> None:
    for failing in compiled["failing"].values():
        assert failing == {"steps": [5, 10, 15], "compiled": {"training": False, "evaluation": True}}


@pytest.mark.parametrize("kind", MIXERS)
def test_what_lives_from_step_to_step_stays_in_place(tmp_path: Path, kind: str) -> None:
    config = make_config(model={"act": "continue", "mixer": small(MIXERS[kind]).model_dump()})
    trainer = Trainer(config, FakeTrial(tmp_path))
    trainer.model.train()
    trainer.train_step(1)
    kept = tensors_of(trainer)
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in kept.items()}
    trainer.train_step(2)
    trainer.train_step(3)
    after = tensors_of(trainer)
    assert before.keys() == after.keys() and {"carry.z_H", "ema.lm_head.weight"} <= after.keys()
    moved = [name for name, (address, _) in before.items() if after[name].data_ptr() != address]
    assert not moved
    assert any(not after[name].equal(value) for name, (_, value) in before.items() if "exp_avg" in name)


def tensors_of(trainer: Trainer) -> dict[str, Any]:
    """Parameters, moments, averages and carry, by name."""
    kept = {f"weight.{name}": tensor.detach() for name, tensor in trainer.model.named_parameters()}
    kept |= {f"ema.{name}": tensor for name, tensor in trainer.ema.shadow.items()}
    kept |= {f"carry.{name}": tensor for name, tensor in vars(trainer.carry).items()}
    for i, moments in trainer.optimizers.state_dict()["adamw"]["state"].items():
        kept |= {f"{name}.{i}": moments[name] for name in ("exp_avg", "exp_avg_sq")}
    return kept
