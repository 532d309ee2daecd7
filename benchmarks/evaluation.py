"""What of a trial's time evaluation takes: `python -m benchmarks.evaluation`.

For each recipe, a few optimizer steps and a few evaluations are timed and multiplied by how many a whole
trial has of them; nothing is trained. Recipes for a GPU are timed in small batches, which changes both times
alike. A trial whose last weights are not those that val chose reads test twice: the larger figure. Printed as
JSON: the share of the wall-clock, and by part.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from trm.__main__ import load_config
from trm.config import TrialConfig
from trm.loop import Trainer
from trm.trainer import evaluated_rows, seconds_of
from trm.trial import NullTrial

BASE = Path(__file__).resolve().parent.parent / "search_spaces/base"
EXTREME = 422_786  # puzzles in the test file of Sudoku-Extreme
GENERATED = "data={task: sudoku, source: embedded, size: 9}"
SMALL = ["train.batch_size=2", "eval.batch_size=2"]


def seconds(config: TrialConfig) -> tuple[float, float]:
    """Of a trained sample, and of an evaluated row."""
    trainer = Trainer(config, NullTrial("cpu"))
    trainer.model.train()
    step_s, row_s = seconds_of(trainer)
    trainer.close()
    return step_s / config.train.batch_size, row_s


def shares(config: TrialConfig, timed: tuple[float, float], num_val: int, num_test: int) -> dict[str, Any]:
    sample_s, row_s = timed
    training_s = sample_s * config.train.max_steps * config.train.batch_size
    parts = {name: count * row_s for name, count in evaluated_rows(config, num_val, num_test).items()}
    total = training_s + sum(parts.values())
    once = total - parts["test"] / 2
    found: dict[str, Any] = {name: round(part / total, 4) for name, part in parts.items()}
    found["evaluation"] = round(1 - training_s / total, 4)
    found["evaluation, where the last weights are the chosen ones"] = round(1 - training_s / once, 4)
    return found | {"sample_ms": round(1000 * sample_s, 3), "row_ms": round(1000 * row_s, 3)}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    published = load_config(BASE / "trm_sudoku.yaml", [GENERATED])
    timed = seconds(load_config(BASE / "trm_sudoku.yaml", [GENERATED, *SMALL]))
    found = {
        "the defaults": shares(TrialConfig(), timed, 1000, 1000),  # generated puzzles, the same network
        "trm_sudoku, 10,000 of test": shares(published, timed, 2048, 10_000),
        "trm_sudoku, all of test": shares(published, timed, 2048, EXTREME),
    }
    for name in ("mini_6x6", "smoke_4x4"):
        config = load_config(BASE / f"{name}.yaml", [])
        data = config.data.load()
        found[name] = shares(config, seconds(config), len(data.val.inputs), len(data.test.inputs))
    print(json.dumps({"on": "1 CPU thread", "torch": str(torch.__version__), "recipes": found}, indent=2))


if __name__ == "__main__":
    main()
