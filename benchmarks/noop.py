"""A trainer that does nothing but report: what is left is the cost of the sweep around it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

STATE = b"0" * 4096


class NoopConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    level: int = 0
    reports: int = 1
    checkpoint: bool = True


def train(config: NoopConfig, trial: Any) -> None:
    for step in range(1, config.reports + 1):
        metrics = {"step": step, "samples": step, "val/accuracy": config.level + 0.001 * step}
        if not config.checkpoint:
            trial.report(metrics)
            continue
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state").write_bytes(STATE)
            trial.report(metrics, folder)


def describe(config: NoopConfig) -> dict[str, Any]:
    return {"metrics": ["val/accuracy"]}
