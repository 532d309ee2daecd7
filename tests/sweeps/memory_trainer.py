"""A trainer with a fake memory probe: `tests.sweeps.memory_trainer:train`.

It "needs" `needs_gb` of a GPU of 80 GB, and runs out of memory the first `fails` times.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

GB = 10**9


class OutOfMemoryError(RuntimeError):
    """Torch's has this name."""


class MemoryConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    needs_gb: float = 1.0
    fails: int = 0
    hangs: bool = False  # while it is measured
    scratch: str = ""
    max_samples: int = 30


def train(config: MemoryConfig, trial: Any) -> None:
    for step in range(1, 4):
        failed = Path(config.scratch, f"{config.fails}-{trial.seed}")
        before = failed.read_text() if failed.exists() else ""
        if step == 2 and len(before) < config.fails:
            failed.write_text(before + "x")
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GB")
        trial.report({"step": step, "samples": 10 * step, "accuracy": 0.1 * step})


def describe(config: MemoryConfig) -> dict[str, Any]:
    return {"horizon_key": "max_samples", "metrics": ["accuracy"]}


def calibrate(config: MemoryConfig, device: str) -> dict[str, Any]:
    assert device == "cuda:0"
    if config.hangs:
        time.sleep(600)
    if config.needs_gb < 0:
        raise RuntimeError("this one cannot be measured")
    return {
        "seconds_per_sample": 0.5,
        "peak_bytes": int(config.needs_gb * GB),
        "total_bytes": 80 * GB,
    }
