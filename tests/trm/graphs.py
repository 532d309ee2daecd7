"""The graphs that torch.compile makes of the shipped recipes, as JSON: `python -m tests.trm.graphs`.

A program of its own, because the compiler cannot see through the checks of shapes that tests have. On the
meta device, and with the backend that runs a graph as it is: shapes as in the recipe, nothing is computed.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from sweeps.plan.build import load_plan
from sweeps.space.shipped import FOLDER
from tests.trm.test_trainer import FakeTrial, make_config
from trm.__main__ import load_config
from trm.config import TrialConfig
from trm.device import Compilation
from trm.evaluate import evaluating
from trm.loop import Trainer
from trm.memory import loss_without_data, model_without_data

SPACES = ("trm_table1", "trm_table2")


def recipes() -> Iterator[tuple[str, TrialConfig]]:
    """Every recipe for one trial, and the arms of the published tables that have another network."""
    known = []
    arms = [(f"{name}/{arm.name}", TrialConfig.model_validate(arm.config)) for name in SPACES
            for arm in load_plan(FOLDER / f"{name}.yaml").arms]  # fmt: skip
    files = sorted((FOLDER / "base").glob("*.yaml"))
    for name, config in [*((path.stem, load_config(path, [])) for path in files), *arms]:
        if (config.model, config.data.shape) not in known:
            known.append((config.model, config.data.shape))
            yield name, config


def compile_with(backend: Any) -> None:
    """Let the project compile with this backend."""
    torch.nn.Module.compile = partialmethod(COMPILE, backend=backend)  # type: ignore[method-assign]


COMPILE = torch.nn.Module.compile


def graphs_of(config: TrialConfig) -> tuple[int, int]:
    """New graphs of a step and of an evaluation of one recipe, and the number of its networks."""
    before = counters["stats"]["unique_graphs"]
    model = model_without_data(config, torch.bfloat16)
    Compilation(model.blocks, True, True)
    loss_without_data(model, config)[1].backward()
    with evaluating(model):
        loss_without_data(model, config)
    return counters["stats"]["unique_graphs"] - before, len(model.blocks)


class Failing:
    """A backend that fails at graph `at`, from 1."""

    def __init__(self, at: int) -> None:
        self.at, self.graphs = at, 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        if self.graphs == self.at:
            raise RuntimeError(f"no code for graph {self.at}")
        return graph.forward


def trial_where_one_fails(at: int) -> dict[str, Any]:
    """The reports of a short trial whose graph number `at` cannot be compiled, and how it was computed."""
    torch.compiler.reset()
    compile_with(Failing(at))
    config = make_config(train={"max_samples": 16 * 15})
    with tempfile.TemporaryDirectory() as folder:
        trial = FakeTrial(Path(folder))
        trainer = Trainer(config, trial)
        trainer.compilation = Compilation(trainer.model.blocks, True, False)
        trainer.run()
    return {"steps": [row["step"] for row in trial.rows], "compiled": trainer.compilation.parts}


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    compile_with("eager")
    found: dict[str, Any] = {"recipes": {}}
    for name, config in recipes():
        found["recipes"][name] = [*graphs_of(config), graphs_of(config)[0]]
    found["breaks"] = dict(counters["graph_break"])
    found["limit"] = torch._dynamo.config.recompile_limit
    found["failing"] = {at: trial_where_one_fails(at) for at in (1, 2)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
