"""A trainer with known learning curves, for tests of what runs trainers: `tests.sweeps.toy_trainer:train`.

After t of T samples the accuracy is height * t / T + seed / 1000. Quick, resumable, exact.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class ToyModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["a", "b", "c", "d"] = "a"
    bonus: float = 0.0


class ToyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    model: ToyModel = ToyModel()
    lr: float = 0.1
    max_samples: int = 100
    seconds_a_step: float = 0.0
    fail_at: int | None = None  # raises at this step
    kill_at: int | None = None  # ends its process at this step
    fail_once: str | None = None  # ... either only while this file does not exist; then makes it
    nan_at: int | None = None
    warns: str = ""  # at every step


HEIGHTS = {"a": 0.4, "b": 0.9, "c": 0.6, "d": 0.2}


ROWS = 10  # samples a step


def accuracy(config: ToyConfig, seed: int, step: int) -> float:
    height = HEIGHTS[config.model.kind] + config.model.bonus - abs(config.lr - 0.1)
    return height * ROWS * step / config.max_samples + 0.001 * seed


def train(config: ToyConfig, trial: Any) -> None:
    total, begin = 0.0, 1
    if trial.checkpoint is not None:
        saved = json.loads((Path(trial.checkpoint) / "state.json").read_text())
        total, begin = saved["total"], saved["step"] + 1
    for step in range(begin, config.max_samples // ROWS + 1):
        time.sleep(config.seconds_a_step)
        if step in (config.fail_at, config.kill_at) and not (
            config.fail_once and Path(config.fail_once).exists()
        ):
            if config.fail_once:
                Path(config.fail_once).touch()
            if step == config.kill_at:
                os._exit(9)
            raise RuntimeError("the toy broke, as it was told to")
        if config.warns:
            logging.getLogger("toy").warning("%s\nand more", config.warns)
        value = float("nan") if step == config.nan_at else accuracy(config, trial.seed, step)
        total += value
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(json.dumps({"total": total, "step": step}))
            trial.report({"step": step, "samples": ROWS * step, "accuracy": value, "total": total}, folder)


def describe(config: ToyConfig) -> dict[str, Any]:
    return {
        "num_params": 7,
        "flops_per_sample": 100,
        "horizon_key": "max_samples",
        "metrics": ["accuracy", "total"],
        "extendable": True,
    }
