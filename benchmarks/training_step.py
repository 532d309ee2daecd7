"""What a training step costs with each mixer: `python -m benchmarks.training_step [--device cuda:0]`.

The trainer's own step (batch, forward, backward, optimizers, EMA) on generated puzzles, at three sizes and
beside the same block composed plainly of PyTorch's operations (`tests.trm.plain`). Rounds go over mixers and
ways in turn, so that a noisy machine is noisy to all; a time is the median over all steps, and memory the
peak of what a step allocates. Printed as JSON, with ratios to attention and to the plain composition; a mixer
that has no plain composition, or does not fit the recipe, is left out there, and a line says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tests.trm.plain import compose_plainly, unbound_scan, unknown_mixers
from trm.__main__ import load_config
from trm.config import TrialConfig
from trm.cost import flops_per_sample, num_params
from trm.data.boards.config import PuzzleConfig
from trm.device import wait_for
from trm.loop import Trainer
from trm.mixers import MIXERS
from trm.model import TRM, build_model
from trm.settings.messages import UsageError
from trm.trial import NullTrial

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "search_spaces/base/mini_6x6.yaml"
SHAPES = {  # what is changed in the recipe of 6x6; one layer, read both ways, or two that alternate
    "4x4, 64 channels": ["data.size=4"],
    "6x6, 64 channels": ["data.size=6"],
    "9x9, 256 channels": [
        "data.size=9",
        "model.hidden_size=256",
        "model.num_layers=2",
        "train.batch_size=16",
    ],
}
SETTINGS = {  # beside the kind, where the recipe is narrower than the mixers' defaults are made for
    "attention": {"num_heads": 4},
    "mamba": {"expand": 1.0, "d_state": 16, "direction": "bidirectional"},
    "mamba2": {"expand": 1.0, "d_state": 16, "headdim": 16, "direction": "bidirectional"},
    "mamba3": {"expand": 1.0, "d_state": 16, "headdim": 16, "direction": "bidirectional"},
    "mlstm": {"expand": 1.0, "direction": "bidirectional_tied"},
    "gated_deltanet": {"direction": "bidirectional_tied"},
    "kda": {"direction": "bidirectional_tied"},
    "rwkv7": {"head_size": 14, "direction": "bidirectional_tied"},
}
NARROW = 256  # hidden_size below which SETTINGS apply
WAYS: dict[str, Callable[[TRM], None]] = {
    "fast": lambda model: None,
    "plain": compose_plainly,
    "plain, unbound": partial(compose_plainly, scan=unbound_scan),  # of mamba alone
    "compiled": lambda model: None,  # by torch.compile; on a GPU "fast" is that
}


def config_of(path: Path, kind: str, overrides: list[str]) -> TrialConfig:
    """The recipe with this mixer, and generated puzzles if it has boards; `overrides` have the last word."""
    recipe = load_config(path, overrides)
    data = []
    if isinstance(recipe.data, PuzzleConfig):
        source, *_ = recipe.data.generated_sources
        data = [f"data={{task: {recipe.data.task}, source: {source}, size: {recipe.data.size}}}"]
    mixer = {"kind": kind} | (SETTINGS.get(kind, {}) if recipe.model.hidden_size < NARROW else {})
    settings = [f"model.mixer.{key}={value}" for key, value in mixer.items()]
    return load_config(path, [*data, *settings, *overrides])


def trainer_of(config: TrialConfig, device: str, way: str) -> Trainer:
    # The plain composition is not compiled on a GPU either: its loop would be unrolled.
    if way != "fast":
        choice = "on" if way == "compiled" else "off"
        train = config.train.model_copy(update={"compile": choice})
        config = config.model_copy(update={"train": train})
    trainer = Trainer(config, NullTrial(device))
    WAYS[way](trainer.model)
    trainer.model.train()
    return trainer


def configs_of(path: Path, overrides: list[str]) -> dict[str, TrialConfig]:
    """The recipe with each of the mixers that fit it."""
    configs = {}
    for kind in MIXERS:
        try:
            configs[kind] = config_of(path, kind, overrides)
        except UsageError as error:
            print(f"{kind} is left out: {error}", file=sys.stderr)
    if not configs:
        sys.exit("no mixer is left: the lines above say why")
    return configs


def ways_of(config: TrialConfig, names: Collection[str]) -> list[str]:
    """Those of the ways that this config's mixer has."""
    left_out = set() if config.model.mixer.kind == "mamba" else {"plain, unbound"}
    if unknown := unknown_mixers(build_model(config, 0, "meta")):
        print(f"tests/trm/plain.py has no {', '.join(unknown)}: it is left out of `plain`", file=sys.stderr)
        left_out |= {"plain", "plain, unbound"}
    return [way for way in names if way not in left_out]


def seconds_a_step(trainer: Trainer, steps: int) -> float:
    wait_for(trainer.device)
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.train_step(trainer.step + 1)
    wait_for(trainer.device)
    return (time.perf_counter() - begin) / steps


def peak_mib(trainer: Trainer) -> float:
    """Of what one step allocates, beyond what was there before it."""
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
        before = torch.cuda.memory_allocated(trainer.device)
        seconds_a_step(trainer, 1)
        return (torch.cuda.max_memory_allocated(trainer.device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        seconds_a_step(trainer, 1)
    events = profiled.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def measure(
    configs: dict[str, TrialConfig], device: str, rounds: int, steps: int, names: Collection[str]
) -> dict[str, Any]:
    """For each mixer: its size, and for each way step_ms, samples_per_s, tflops (achieved, T/s); peak_mib of
    those that are ours."""
    ways = {
        (name, way): trainer_of(config, device, way)
        for name, config in configs.items()
        for way in ways_of(config, names)
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
    # The first two steps compile and fill caches, if there is something to compile.
    first_s = {key: 2 * seconds_a_step(trainer, 2) for key, trainer in ways.items()}
    for (name, way), trainer in ways.items():
        if way == "compiled" and any(block._compiled_call_impl is None for block in trainer.model.blocks):
            raise RuntimeError(f"{name} was not compiled; the warning above says why")
    for _ in range(rounds):
        for key, trainer in ways.items():
            for _ in range(steps):
                times[key].append(seconds_a_step(trainer, 1))
    found: dict[str, Any] = {name: {"num_params": num_params(config)} for name, config in configs.items()}
    for (name, way), seconds in times.items():
        config, median = configs[name], statistics.median(seconds)
        rows = config.train.batch_size
        found[name][way] = {
            "step_ms": round(1000 * median, 2),
            "first_two_steps_s": round(first_s[name, way], 2),
            "samples_per_s": round(rows / median, 1),
            "tflops": round(flops_per_sample(config) * rows / median / 1e12, 4),
        }
        if not way.startswith("plain"):  # profiling those takes 20 GB at 9x9: each token's gradient is of all
            found[name][way]["peak_mib"] = round(peak_mib(ways[name, way]), 1)
    for name, row in found.items():
        fast, attention = row["fast"], found.get("attention", {}).get("fast")
        for way in row.keys() - {"num_params", "fast"}:
            fast[f"times as fast as {way}"] = round(row[way]["step_ms"] / fast["step_ms"], 2)
        if attention and name != "attention":
            fast["attention's step times"] = round(fast["step_ms"] / attention["step_ms"], 2)
            fast["attention's memory times"] = round(fast["peak_mib"] / attention["peak_mib"], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="one of the three; repeatable")
    parser.add_argument("--config", type=Path, help="another recipe instead of them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="a round")
    parser.add_argument("--no-plain", action="store_true", help="without the plain composition")
    parser.add_argument("--compiled", action="store_true", help="torch.compile as well")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.compiled:  # the graphs of all trainers are of the same code, of which PyTorch makes 8 by itself
        torch._dynamo.config.recompile_limit = 64
    shapes = {given.config.stem: []} if given.config else {s: SHAPES[s] for s in given.shape or SHAPES}
    left_out = ("plain",) * given.no_plain + ("compiled",) * (not given.compiled)
    names = [way for way in WAYS if not way.startswith(left_out)]
    found = {}
    for shape, changes in shapes.items():
        configs = configs_of(given.config or RECIPE, [*changes, *given.overrides])
        found[shape] = measure(configs, given.device, given.rounds, given.steps, names)
    where = (
        torch.cuda.get_device_name(given.device) if given.device != "cpu" else f"{given.threads} CPU thread"
    )
    print(json.dumps({"on": where, "torch": str(torch.__version__), "shapes": found}, indent=2))


if __name__ == "__main__":
    main()
