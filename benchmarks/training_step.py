"""What a training step costs with each mixer: `python -m benchmarks.training_step [--device cuda:0]`.

The trainer's own step (batch, forward, backward, optimizers, EMA) on generated puzzles, in the recipe of
--config with nothing changed but the mixer. Rounds go over the mixers in turn, so that a noisy machine is
noisy to all; a mixer's time is the median over its rounds. Printed as JSON, with ratios to attention.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from trm.__main__ import load_config
from trm.config import TrialConfig
from trm.flops import flops_per_sample, num_params
from trm.mixers import MIXERS
from trm.trainer import Trainer
from trm.trial import Unreported

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {  # beside the kind, where the recipe is narrower than the mixers' defaults are made for
    "attention": {"num_heads": 4},
    "mamba": {"expand": 1.0, "d_state": 16, "direction": "bidirectional"},
    "mamba2": {"expand": 1.0, "d_state": 16, "headdim": 16, "direction": "bidirectional"},
}
NARROW = 256  # hidden_size below which SETTINGS apply


def config_of(path: Path, kind: str, overrides: list[str]) -> TrialConfig:
    """The recipe with this mixer and generated puzzles; `overrides` have the last word."""
    recipe = load_config(path, overrides)
    task, size, (source, *_) = recipe.data.task, recipe.data.size, recipe.data.generated_sources
    data = f"data={{task: {task}, source: {source}, size: {size}}}"
    mixer = {"kind": kind} | (SETTINGS.get(kind, {}) if recipe.model.hidden_size < NARROW else {})
    settings = [f"model.mixer.{key}={value}" for key, value in mixer.items()]
    return load_config(path, [data, *settings, *overrides])


def seconds_a_step(trainer: Trainer, steps: int) -> float:
    _wait(trainer.device)
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.train_step(trainer.step + 1)
    _wait(trainer.device)
    return (time.perf_counter() - begin) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(configs: dict[str, TrialConfig], device: str, rounds: int, steps: int) -> dict[str, Any]:
    """For each name: step_ms, samples_per_s, tflops (achieved, T/s) and, on a GPU, peak_gib."""
    trainers = {name: Trainer(config, Unreported(device)) for name, config in configs.items()}
    times: dict[str, list[float]] = {name: [] for name in configs}
    peak: dict[str, float] = {}
    for trainer in trainers.values():
        trainer.model.train()
        seconds_a_step(trainer, 2)  # compiles, fills caches
    for _ in range(rounds):
        for name, trainer in trainers.items():
            if trainer.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(trainer.device)
            times[name].append(seconds_a_step(trainer, steps))
            if trainer.device.type == "cuda":
                peak[name] = torch.cuda.max_memory_allocated(trainer.device) / 2**30
    found = {}
    for name, config in configs.items():
        seconds, rows = statistics.median(times[name]), config.train.batch_size
        found[name] = {
            "num_params": num_params(config),
            "step_ms": round(1000 * seconds, 2),
            "samples_per_s": round(rows / seconds, 1),
            "tflops": round(flops_per_sample(config) * rows / seconds / 1e12, 4),
        }
        if name in peak:
            found[name]["peak_gib"] = round(peak[name], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "search_spaces/base/mini_6x6.yaml")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="a round")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    configs = {kind: config_of(given.config, kind, given.overrides) for kind in MIXERS}
    found = measure(configs, given.device, given.rounds, given.steps)
    for row in found.values():
        row["times_attention"] = round(row["step_ms"] / found["attention"]["step_ms"], 2)
    where = (
        torch.cuda.get_device_name(given.device) if given.device != "cpu" else f"{given.threads} CPU thread"
    )
    print(json.dumps({"on": where, "torch": str(torch.__version__), "mixers": found}, indent=2))


if __name__ == "__main__":
    main()
