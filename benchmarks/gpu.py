"""All that a GPU has to confirm, in nine minutes: `python -m benchmarks.gpu [--out gpu.json]`.

The parts run in this order, each until its end or until --minutes are over, and the file is written after
each, so that a part which fails or hangs costs no other:

    kernels  errors of Mamba's scan against the recurrence in float64 (`trm.mixers.kernels.parity`)
    numbers  a step on the device in float32 beside the same step on the CPU in float64: the relative error of
             the new answer, of the loss, and the worst of a gradient, for each mixer
    small    milliseconds a step at 6x6, 64 channels: eager, compiled, and as one CUDA graph of either
    published  the same at the published recipe, beside the memory that was estimated
    shares   samples a second of four trials that share the device, times those of one trial
    curve    with --data TRAIN TEST: the MLP mixer trained on them for the minutes that remain

Needs neither Ray nor MLflow. With `--device cpu` it runs as far as a CPU lets it: `published` and `shares`
are left out, and nothing is a graph.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import at_once
from benchmarks.training_step import RECIPE, configs_of, seconds_a_step
from trm.__main__ import load_config
from trm.batches import derive_seed
from trm.checkpoint import Save
from trm.config import TrialConfig
from trm.cost import flops_per_sample
from trm.device import resolve_device
from trm.loop import Trainer
from trm.losses import supervision_loss
from trm.memory import step_memory
from trm.mixers.kernels.parity import CASES, worst_errors
from trm.model import Noise, build_model
from trm.settings.messages import UsageError
from trm.trainer import train
from trm.trial import LocalTrial, NullTrial

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "search_spaces/base/trm_sudoku.yaml"
SHARED = ["model.hidden_size=128", "data.size=9", "train.batch_size=128"]  # one trial does not fill a GPU
AT_ONCE = 4
WARM_UP, TIMED = 3, 10  # steps
CUDA_BYTES = 1 << 29  # of the context of each process, as sweeps/execute/worker.py has it
# A report about every half minute.
CURVE: dict[str, Any] = {"eval.every_samples": 384_000, "data.num_train": 1000, "data.num_val": 512}


class Clock:
    """What is left of the minutes."""

    def __init__(self, minutes: float) -> None:
        self._end = time.perf_counter() + 60 * minutes

    @property
    def left_s(self) -> float:
        return self._end - time.perf_counter()


# Correctness


def kernels(device: str) -> dict[str, Any]:
    cases = CASES if device != "cpu" else CASES[:3]
    return {
        str(dtype).removeprefix("torch."): worst_errors(device, dtype, cases)
        for dtype in (torch.float32, torch.bfloat16)
    }


def numbers(device: str, configs: dict[str, TrialConfig]) -> dict[str, Any]:
    return {name: _difference(config, device) for name, config in configs.items()}


def _difference(config: TrialConfig, device: str) -> dict[str, float]:
    """Of what one supervision step gives on the device, from what it gives on the CPU in float64."""
    expected, found = (_one_step(config, *where) for where in (("cpu", True), (device, False)))
    worst = {}
    for name, value in expected.items():
        error = (found[name].double().cpu() - value).norm() / value.norm().clamp_min(1e-12)
        worst[name] = error.item()
    gradients = {name: error for name, error in worst.items() if name.startswith("grad ")}
    return {"answer": worst["answer"], "loss": worst["loss"], "gradients": max(gradients.values())}


def _one_step(config: TrialConfig, device: str, is_double: bool) -> dict[str, Tensor]:
    model = build_model(config, 0, "cpu").to(device)
    if is_double:
        model = model.double()
        model.forward_dtype = torch.float64
    model.train()
    generator = torch.Generator().manual_seed(0)
    rows, shape = 8, config.data.shape
    tokens = torch.randint(1, shape.vocab_size, (2, rows, shape.seq_len), generator=generator).to(device)
    noise = Noise(
        explores=torch.zeros(rows, dtype=torch.bool, device=device),
        min_steps=torch.zeros(rows, dtype=torch.int64, device=device),
    )
    carry, output = model(model.initial_carry(rows, device), *tokens, noise)
    loss, _ = supervision_loss(output, carry, config.effective_loss)
    loss.backward()
    gradients = {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"answer": carry.z_H, "loss": loss.detach(), **gradients}


# Speed


def steps(device: str, configs: dict[str, TrialConfig], clock: Clock) -> dict[str, Any]:
    """For each mixer and way: step_ms, samples_per_s, teraflop_per_s, and the peak of memory in GiB."""
    found: dict[str, Any] = {}
    for name, config in configs.items():
        found[name] = {"estimated_gib": _gib(step_memory(config, _dtype(config, device)).total)}
        for way in ("off", "on"):
            if clock.left_s < 0:
                return found | {"cut": "the minutes were over"}
            label = "eager" if way == "off" else "compiled"
            with _trained(config, device, way) as trainer:
                found[name][label] = _timed(trainer, partial(seconds_a_step, trainer, TIMED))
                if device != "cpu":
                    graph = _told(lambda trainer=trainer: _graph_of(trainer))
                    found[name][f"{label}, one graph"] = graph
    return found


def _told(measure: Callable[[], Any]) -> Any:
    """What `measure` found, or the error that it ended with."""
    try:
        return measure()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}


@contextmanager
def _trained(config: TrialConfig, device: str, compile: str) -> Iterator[Trainer]:
    """A trainer after its warm-up."""
    settings = config.train.model_copy(update={"compile": compile})
    trainer = Trainer(config.model_copy(update={"train": settings}), NullTrial(device))
    try:
        trainer.model.train()
        seconds_a_step(trainer, WARM_UP)
        yield trainer
    finally:
        trainer.close()


def _timed(trainer: Trainer, seconds: Callable[[], float]) -> dict[str, Any]:
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    step_s = statistics.median(seconds() for _ in range(3))
    rows = trainer.config.train.batch_size
    flops = flops_per_sample(trainer.config) * rows
    found = {
        "step_ms": round(1000 * step_s, 2),
        "samples_per_s": round(rows / step_s, 1),
        "teraflop_per_s": round(flops / step_s / 1e12, 3),
    }
    if trainer.device.type == "cuda":
        found["peak_gib"] = _gib(torch.cuda.max_memory_allocated(trainer.device))
    return found


def _graph_of(trainer: Trainer) -> dict[str, Any]:
    """`Trainer.update` as one CUDA graph, fed with each step's batch, noise and rates as a run is."""
    inputs, labels, noise = _drawn(trainer, trainer.step + 1)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as torch.cuda.graph asks: what happens once happens before the recording
        for _ in range(WARM_UP):
            trainer.update(inputs, labels, noise)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        trainer.update(inputs, labels, noise)

    def seconds() -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(TIMED):
            trainer.step += 1
            batch = _drawn(trainer, trainer.step)
            inputs.copy_(batch[0])
            labels.copy_(batch[1])
            for held, drawn in zip(noise or (), batch[2] or (), strict=True):
                held.copy_(drawn)
            trainer.optimizers.set_rates(trainer.step)
            graph.replay()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / TIMED

    seconds()
    found = _timed(trainer, seconds)
    if not torch.isfinite(trainer.totals).all():
        raise RuntimeError("the graph's losses are not finite")
    return found


def _drawn(trainer: Trainer, step: int) -> tuple[Tensor, Tensor, Noise | None]:
    inputs, labels = trainer.batches(step)
    trainer.generator.manual_seed(derive_seed(trainer.trial.seed, "halting", step))
    return inputs, labels, trainer.model.draw_noise(len(inputs), trainer.generator)


def shares(device: str, clock: Clock) -> dict[str, Any]:
    """Each trial is a process of its own, as a sweep's are, and may use a quarter of the memory."""
    seconds = min(20.0, max(1.0, clock.left_s / 4))
    command = ["benchmarks.gpu", "--device", device, "--share", str(seconds)]
    alone, together = (at_once.samples_per_s(command, number, seconds) for number in (1, AT_ONCE))
    return {
        "samples_per_s, alone": round(alone, 1),
        f"samples_per_s, {AT_ONCE} at once": round(together, 1),
        "times": round(together / alone, 2),
    }


def share(device: str, seconds: float) -> None:
    """One of the trials of `shares`."""
    if device != "cpu":
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(1 / AT_ONCE - CUDA_BYTES / total)
    config = configs_of(RECIPE, SHARED)["mlp"]
    with _trained(config, device, "on" if device != "cpu" else "off") as trainer:
        at_once.train(trainer, seconds)


# A learning curve


class _Over(Exception):
    """The minutes are over."""


class _TimedTrial(LocalTrial):
    def __init__(self, clock: Clock, output: Path, device: str) -> None:
        super().__init__(output, seed=0, device=device, resume=True)
        self._clock = clock

    def report(self, metrics: dict[str, float], checkpoint: str | Path | Save | None = None) -> None:
        super().report(metrics, checkpoint)
        if self._clock.left_s < 30:
            raise _Over


def curve(device: str, data: list[Path], output: Path, clock: Clock) -> list[dict[str, float]]:
    """The reports of the published recipe with the MLP mixer on two files of puzzles, train and test, until
    half a minute is left. It goes on from `output`, where an earlier call has left its checkpoint."""
    settings = [f"{key}={value}" for key, value in CURVE.items()]
    train_file, test_file = (path.resolve() for path in data)
    source = f"data={{task: sudoku, source: csv, train: {train_file}, test: {test_file}}}"
    trial = _TimedTrial(clock, output, device)
    with suppress(_Over):
        train(load_config(PUBLISHED, ["model.mixer={kind: mlp}", source, *settings]), trial)
    return trial.history


def _dtype(config: TrialConfig, device: str) -> torch.dtype:
    is_half = device != "cpu" and config.train.precision in ("auto", "bfloat16")
    return torch.bfloat16 if is_half else torch.float32


def _gib(number: int) -> float:
    return round(number / 2**30, 2)


# The parts


def parts(given: argparse.Namespace, clock: Clock) -> dict[str, Callable[[], Any]]:
    device, is_cpu = given.device, given.device == "cpu"
    small = configs_of(RECIPE, ["train.batch_size=8"] if is_cpu else [])
    found: dict[str, Callable[[], Any]] = {
        "kernels": lambda: kernels(device),
        "numbers": lambda: numbers(device, small),
        "small": lambda: steps(device, small, clock),
    }
    if not is_cpu:
        found["published"] = lambda: steps(device, configs_of(PUBLISHED, []), clock)
        found["shares"] = lambda: shares(device, clock)
    if given.data is not None:
        found["curve"] = lambda: curve(device, given.data, given.curve, clock)
    return {name: part for name, part in found.items() if name in (given.part or found)}


def _machine(device: str) -> dict[str, Any]:
    about: dict[str, Any] = {"torch": str(torch.__version__), "device": "CPU"}
    if device != "cpu":
        free, total = torch.cuda.mem_get_info(device)
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        about |= {"device": torch.cuda.get_device_name(device), "compute_capability": capability}
        about |= {"memory_gib": _gib(total), "free_gib": _gib(free)}
    return about


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--out", type=Path, help="write the findings as JSON, after each part")
    parser.add_argument("--part", action="append", help="this part alone; repeatable")
    files = {"nargs": 2, "metavar": ("TRAIN", "TEST"), "help": "for the curve: files as Sudoku-Extreme's"}
    parser.add_argument("--data", type=Path, **files)
    parser.add_argument("--curve", type=Path, default=Path("gpu_curve"), help="folder of its checkpoint")
    parser.add_argument("--share", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        device = resolve_device(given.device)
    except UsageError as error:
        parser.exit(2, f"{error}\n")
    if device != "cpu":
        torch.cuda.set_device(device)  # of streams, graphs and limits
    if given.share is not None:
        share(device, given.share)
        return
    if device == "cpu":
        torch.set_num_threads(1)
    clock, found = Clock(given.minutes), _machine(device)
    for name, part in parts(given, clock).items():
        begin = time.perf_counter()
        found[name] = _told(part) if clock.left_s > 0 else {"cut": "the minutes were over"}
        found[name + "_s"] = round(time.perf_counter() - begin, 1)
        print(json.dumps({name: found[name]}, indent=2), flush=True)
        if given.out is not None:
            given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
