"""Measures the cost of a trial by running a few steps: seconds per sample, and the peak of GPU memory.

A trainer's module may have `calibrate(config, device)`, which runs a few steps and returns
`seconds_per_sample`, with the time of evaluations included. Without it the trainer itself runs until its
second report, for at most LIMIT_S.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeps.execute.held_signals import pass_over_held_signals
from sweeps.execute.worker import set_threads
from sweeps.plan.resources import Calibration
from sweeps.plan.trainer import import_trainer

LIMIT_S = 60.0


class _EnoughReports(BaseException):
    """Raised in `report` to end the trainer."""


class _TimedTrial:
    """A `trial` that ends the trainer at its second report, and keeps the time of each report."""

    checkpoint = None
    seed = 0
    saves_in_place = True

    def __init__(self, device: str) -> None:
        self.device = device
        self.reports = [
            (time.perf_counter(), 0.0)
        ]  # (time in seconds, samples so far); the first is the start

    def report(self, metrics: Mapping[str, float], checkpoint: Any = None) -> None:
        if callable(checkpoint):  # what it takes is a part of the trial's time
            with tempfile.TemporaryDirectory(prefix="sweep-checkpoint-") as folder:
                checkpoint(Path(folder))
        self.reports.append((time.perf_counter(), float(metrics["samples"])))
        if len(self.reports) > 2:
            raise _EnoughReports

    @property
    def seconds_per_sample(self) -> float | None:
        """Between the last two reports, or from the start if there was only one; None if there was none."""
        if len(self.reports) < 2:
            return None
        (began, before), (ended, after) = self.reports[-2:]
        return (ended - began) / (after - before) if after > before else None


def measure(
    trainer: str, config: dict[str, Any], device: str, cpu: float, sys_path: list[str]
) -> Calibration:
    """Measure one trial. Run it in a fresh process, so that the GPU memory in use is this trial's only."""
    pass_over_held_signals()
    sys.path.extend(path for path in sys_path if path not in sys.path)
    loaded = import_trainer(trainer)
    settings = loaded.config_model.model_validate(config)
    set_threads(cpu)
    measured: dict[str, Any] = {}
    if loaded.calibrate is not None:
        measured = dict(loaded.calibrate(settings, device))
    else:
        trial = _TimedTrial(device)

        def run() -> None:
            with suppress(_EnoughReports):
                loaded.function(settings, trial)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(LIMIT_S)
        measured["seconds_per_sample"] = trial.seconds_per_sample
    return Calibration(**_gpu_memory() | measured)


def _gpu_memory() -> dict[str, int]:
    """The peak of torch's reserved memory plus what the driver and libraries hold now; {} without a GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    outside_torch = max(0, total - free - torch.cuda.memory_reserved())
    return {"peak_bytes": torch.cuda.max_memory_reserved() + outside_torch, "total_bytes": total}
