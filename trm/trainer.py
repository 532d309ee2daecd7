"""TRM's trainer for a sweep: `train`, and the optional functions `describe`, `gpu_memory`, `check` and
`calibrate`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from trm.config import TrialConfig
from trm.cost import flops_per_sample, num_params
from trm.data.base import Split
from trm.device import wait_for
from trm.loop import Trainer, metric_units
from trm.memory import step_memory
from trm.trial import NullTrial, Trial

WARM_UP_STEPS = 2  # not timed: they compile, and use every kernel for the first time
TIMED_S = 3.0  # seconds
NOT_YET_ON_A_GPU = (
    "TRM and its kernels for state-space models have not yet run on a GPU: python -m benchmarks.gpu checks "
    "them there first (docs/gpu.md)"
)


def describe(config: TrialConfig) -> dict[str, Any]:
    """The facts about a trial that are known before training."""
    units = metric_units(config)
    return {
        "num_params": num_params(config),
        "flops_per_sample": flops_per_sample(config),
        "effective_depth": config.model.effective_depth,
        "horizon_key": "train.max_samples",
        "samples_per_step": config.train.batch_size,
        "samples_per_report": config.eval_every_steps * config.train.batch_size,
        "warmup_samples": config.warmup_steps * config.train.batch_size,
        "metrics": list(units),
        "units": {name: unit for name, unit in units.items() if unit},
        "needs_gpu": config.model.mixer.needs_gpu,
        "notes": config.model.notes,
        "gpu_notes": [NOT_YET_ON_A_GPU],
        "effective": config.effective(),
        "extendable": config.is_extendable,
    }


def gpu_memory(config: TrialConfig) -> int:
    """Bytes that a training step needs on a GPU with bfloat16, estimated. Takes about a second."""
    is_half = config.train.precision in ("auto", "bfloat16")
    return step_memory(config, torch.bfloat16 if is_half else torch.float32).total


def check(config: TrialConfig) -> str | None:
    """Read and validate the config's data before any trial starts. Raises DataError.

    Returns the hash of the data, or None if there is no file to read.
    """
    return config.data.check()


def train(config: TrialConfig, trial: Trial) -> None:
    """Train one configuration to its horizon, with a report and a checkpoint at every evaluation.

    If the loss is not finite, reports it and ends the run. Raises DataError, CheckpointError.
    """
    trainer = Trainer(config, trial)
    try:
        trainer.run()
    finally:
        trainer.close()


def calibrate(config: TrialConfig, device: str) -> dict[str, float]:
    """`seconds_per_sample` of a whole trial: its optimizer steps and evaluations, divided by its samples.

    Takes a few seconds. Afterwards the device's peak memory is that of a trial.
    """
    trainer = Trainer(config, NullTrial(device))
    try:
        step_s, row_s = seconds_of(trainer)
        rows = sum(evaluated_rows(config, len(trainer.val.inputs), len(trainer.test.inputs)).values())
        total_s = config.train.max_steps * step_s + rows * row_s
        return {"seconds_per_sample": total_s / config.train.max_samples}
    finally:
        trainer.close()


def seconds_of(trainer: Trainer) -> tuple[float, float]:
    """Measured seconds of an optimizer step, and of evaluating a row."""
    config, steps = trainer.config, iter(range(1, trainer.config.train.max_steps + 1))
    step_s = _seconds(lambda: trainer.train_step(next(steps)), config.train.max_steps, trainer.device)
    batch = Split(*(column[: config.eval.batch_size] for column in trainer.val))
    batch_s = _seconds(lambda: trainer.evaluate(batch), 3, trainer.device)
    return step_s, batch_s / len(batch.inputs)


def evaluated_rows(config: TrialConfig, num_val: int, num_test: int) -> dict[str, float]:
    """The most rows that a whole trial evaluates, by purpose: `val`, `test`, and `depth`.

    A row that runs to `depth_steps` counts as depth_steps / halt_max_steps rows.
    """
    subset = min(config.eval.val_rows, num_val)
    reports = math.ceil(config.train.max_steps / config.eval_every_steps)
    averages = config.optim.ema_decay > 0
    raw_reports = averages * (reports - 1 if config.eval.raw_weights == "every" else 0)
    depth_ratio = max(config.eval.depth_steps / config.model.halt_max_steps, 1)
    return {
        "val": (reports - 1 + raw_reports) * subset + (1 + averages) * num_val,
        "test": 2 * num_test,  # with the last and the chosen weights; only once if these are the same
        "depth": min(config.eval.depth_rows, num_test) * depth_ratio,
    }


def _seconds(run: Callable[[], object], most: int, device: torch.device) -> float:
    """Mean seconds of a call after the warm-up, over TIMED_S seconds; at most `most` calls in all."""
    for _ in range(min(WARM_UP_STEPS, most - 1)):
        run()
    wait_for(device)
    began, calls = time.perf_counter(), 0
    while calls == 0 or (calls < most - WARM_UP_STEPS and time.perf_counter() - began < TIMED_S):
        run()
        wait_for(device)
        calls += 1
    return (time.perf_counter() - began) / calls
