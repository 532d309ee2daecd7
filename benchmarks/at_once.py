"""Trials that train at once, each a process of its own, as a sweep's are.

`samples_per_s` starts them, with a command that builds a trainer and ends with `train`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.training_step import seconds_a_step
from trm.loop import Trainer

ROOT = Path(__file__).resolve().parent.parent


def samples_per_s(command: Sequence[str], number: int, seconds: float) -> float:
    """Of `number` trials at once, in all; each is `python -m *command`, and trains for so long."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    trials = [subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, **pipes) for _ in range(number)]
    try:
        for trial in trials:
            if trial.stdout.readline() != "ready\n":
                raise RuntimeError("a trial ended before it was ready; its error stands above")
        for trial in trials:
            trial.stdin.write("\n")
            trial.stdin.flush()
        return sum(float(trial.communicate(timeout=seconds + 60)[0]) for trial in trials)
    finally:
        for trial in trials:
            trial.kill()
            trial.wait()


def train(trainer: Trainer, seconds: float) -> None:
    """One of the trials, after its warm-up: waits for a line, trains so long and prints its samples a
    second."""
    print("ready", flush=True)
    sys.stdin.readline()
    begin, first = time.perf_counter(), trainer.step
    while (passed := time.perf_counter() - begin) < seconds:
        seconds_a_step(trainer, 1)
    print((trainer.step - first) * trainer.config.train.batch_size / passed)
