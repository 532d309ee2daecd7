"""What a trial costs, by a few steps of it: seconds a sample, and the peak of a GPU's memory.

A trainer's module may have `calibrate(config, device)`, which takes a few steps and returns
`seconds_per_sample`, the time of evaluations included. Without it the trainer itself runs up to its second
report, for a minute at most.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sweeps.execute.worker import set_threads
from sweeps.plan.resources import Calibration
from sweeps.plan.trainer import import_trainer

LIMIT_S = 60.0


class _EnoughReports(BaseException):
    """Unwinds the trainer out of `report`."""


class _TimedTrial:
    """A `trial` that ends the trainer at its second report."""

    checkpoint = None
    seed = 0

    def __init__(self, device: str) -> None:
        self.device = device
        self.reports = [(time.perf_counter(), 0.0)]  # when, and samples so far

    def report(self, metrics: Mapping[str, float], checkpoint: Any = None) -> None:
        self.reports.append((time.perf_counter(), float(metrics["samples"])))
        if len(self.reports) > 2:
            raise _EnoughReports

    @property
    def seconds_per_sample(self) -> float | None:
        """From the last two reports; the first one alone has the start in it."""
        if len(self.reports) < 2:
            return None
        (began, before), (ended, after) = self.reports[-2:]
        return (ended - began) / (after - before) if after > before else None


def measure(
    trainer: str, config: dict[str, Any], device: str, cpu: float, sys_path: list[str]
) -> Calibration:
    """Run in a worker of its own, which ends with it: what a GPU holds is this trial's."""
    sys.path.extend(path for path in sys_path if path not in sys.path)
    loaded = import_trainer(trainer)
    settings = loaded.config_model.model_validate(config)
    set_threads(cpu)
    known: dict[str, Any] = {}
    if loaded.calibrate is not None:
        known = dict(loaded.calibrate(settings, device))
    else:
        trial = _TimedTrial(device)

        def run() -> None:
            with suppress(_EnoughReports):
                loaded.function(settings, trial)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(LIMIT_S)
        known["seconds_per_sample"] = trial.seconds_per_sample
    return Calibration(**_gpu_memory() | known)


def _gpu_memory() -> dict[str, int]:
    """The peak of what torch had reserved, and beside it what the driver and libraries hold."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    beside = max(0, total - free - torch.cuda.memory_reserved())
    return {"peak_bytes": torch.cuda.max_memory_reserved() + beside, "total_bytes": total}
