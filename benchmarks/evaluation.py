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
from trm.calibrate import evaluated_rows, seconds_of
from trm.config import TrialConfig
from trm.trainer import Trainer
from trm.trial import Unreported

BASE = Path(__file__).resolve().parent.parent / "search_spaces/base"
EXTREME = 422_786  # puzzles in the test file of Sudoku-Extreme
GENERATED = "data={task: sudoku, source: embedded, size: 9}"
SMALL = ["train.batch_size=8", "eval.batch_size=8"]
RECIPES: dict[str, tuple[Path | None, list[str], tuple[int, int] | None]] = {  # and rows of val and test
    "the defaults": (None, [], None),
    "trm_sudoku, 10,000 of test": (BASE / "trm_sudoku.yaml", [GENERATED], (2048, 10_000)),
    "trm_sudoku, all of test": (BASE / "trm_sudoku.yaml", [GENERATED], (2048, EXTREME)),
    "mini_6x6": (BASE / "mini_6x6.yaml", [], None),
    "smoke_4x4": (BASE / "smoke_4x4.yaml", [], None),
}


def share(
    path: Path | None, changes: list[str], rows: tuple[int, int] | None, smaller: bool
) -> dict[str, Any]:
    config = load_config(path, changes) if path else TrialConfig()
    timed = (
        load_config(path, [*changes, *SMALL])
        if path
        else TrialConfig.model_validate({"train": {"batch_size": 8}, "eval": {"batch_size": 8}})
    )
    trainer = Trainer(timed if smaller else config, Unreported("cpu"))
    num_val, num_test = rows or (len(trainer.val.inputs), len(trainer.test.inputs))
    trainer.model.train()
    step_s, row_s = seconds_of(trainer)
    sample_s = step_s / trainer.config.train.batch_size
    trainer.close()
    training_s = sample_s * config.train.max_steps * config.train.batch_size
    parts = {name: count * row_s for name, count in evaluated_rows(config, num_val, num_test).items()}
    total = training_s + sum(parts.values())
    once = total - parts["test"] / 2
    found: dict[str, Any] = {name: round(seconds / total, 4) for name, seconds in parts.items()}
    found["evaluation"] = round(1 - training_s / total, 4)
    found["evaluation, where the last weights are the chosen ones"] = round(1 - training_s / once, 4)
    return found | {
        "evaluated_row_ms": round(1000 * row_s, 3),
        "trained_sample_ms": round(1000 * sample_s, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, (path, changes, rows) in RECIPES.items():
        found[name] = share(path, changes, rows, smaller=not name.startswith(("mini", "smoke")))
    print(json.dumps({"on": "1 CPU thread", "torch": str(torch.__version__), "recipes": found}, indent=2))


if __name__ == "__main__":
    main()
