"""The trainer of TRM: `train(config, trial)`, and `describe(config)` for what is known before training.

After the reference implementation: one optimizer step is one supervision step of every row in the carry,
which lives on across batches (arXiv 2510.04871, section 4); evaluation has EMA weights and never halts early.

Nothing in a step waits for the device, and everything random in step t follows from (seed, t): a run that is
interrupted and resumed on the same CPU gives the same bits as one that is not.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from trm import depth
from trm.batches import Batches, derive_seed
from trm.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from trm.chosen import Chosen
from trm.config import TrialConfig
from trm.data import AnyTaskConfig
from trm.data.base import Split, TaskData
from trm.ema import EMA
from trm.evaluate import evaluate, fixed_subset
from trm.flops import flops_per_sample, num_params
from trm.losses import supervision_loss
from trm.memory import keep_freed_memory
from trm.model import Carry, build_model
from trm.optim import Optimizers
from trm.trial import Trial

log = logging.getLogger(__name__)
T = TypeVar("T")

Q_CONTINUE = "train/q_continue_loss"  # only where it is learned
METRICS = [
    *("step", "samples", "flops", "wall_s", "samples_per_s", "lr"),
    *("train/loss", "train/lm_loss", "train/q_halt_loss", Q_CONTINUE),
    *("train/cell_accuracy", "train/exact_accuracy", "train/q_halt_accuracy", "train/halt_steps"),
    *("val/loss", "val/cell_accuracy", "val/exact_accuracy", "val/exact_accuracy_low"),
    *("val/exact_accuracy_high", "val/q_halt_accuracy", "val/cell_accuracy_raw", "val/exact_accuracy_raw"),
    *("test/cell_accuracy", "test/exact_accuracy", "test/exact_accuracy_low", "test/exact_accuracy_high"),
    *("test/q_halt_accuracy", "chosen_step"),  # and those of `depth.metric_names`
]
# Means over all rows; the other metrics of training, over the rows that halt.
_LOSSES = ("loss", "lm_loss", "q_halt_loss", "q_continue_loss")
_SUMS = (*_LOSSES, "count", "cell_accuracy", "exact_accuracy", "q_halt_accuracy", "halt_steps")


def metric_names(config: TrialConfig) -> list[str]:
    """All that a trial may report, in the order of its reports."""
    learned = [name for name in METRICS if name != Q_CONTINUE or config.model.learns_to_continue]
    return learned + depth.metric_names(config)


def describe(config: TrialConfig) -> dict[str, Any]:
    """What is known of a trial before it trains."""
    return {
        "num_params": num_params(config),
        "flops_per_sample": flops_per_sample(config),
        "effective_depth": config.model.effective_depth,
        "horizon_key": "train.max_samples",
        "warmup_samples": config.warmup_steps * config.train.batch_size,
        "metrics": metric_names(config),
        "needs_gpu": config.model.mixer.needs_gpu,
        "effective": config.effective(),
        "extendable": config.is_extendable,
    }


def check(config: TrialConfig) -> str | None:
    """Read and validate the data that the config names, before anything starts. Raises DataError.

    Returns the hash of what was read, if anything.
    """
    return config.data.check()


def calibrate(config: TrialConfig, device: str) -> dict[str, float]:
    """Take a few steps; `seconds_per_sample` of a whole trial, evaluations included."""
    from trm import calibrate as few_steps  # which drives this module's Trainer

    return few_steps.calibrate(config, device)


def train(config: TrialConfig, trial: Trial) -> None:
    """Train one configuration to its horizon, with a report and a checkpoint at every evaluation.

    Where the loss is not finite, the report says so and the run ends. Raises DataError, CheckpointError.
    """
    trainer = Trainer(config, trial)
    try:
        trainer.run()
    finally:
        trainer.close()


class Trainer:
    """One trial's model, optimizers and data, and its place in the run: `step` optimizer steps are done."""

    def __init__(self, config: TrialConfig, trial: Trial) -> None:
        config.model.check_device(trial.device)
        self.config, self.trial = config, trial
        self.device = torch.device(trial.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        data = _load_data(config.data)
        self.data_hash = data.hash
        self.val, self.test = _to(data.val, self.device), _to(data.test, self.device)
        self.val_subset = fixed_subset(self.val, config.eval.val_rows)
        batch_size = config.train.batch_size
        self.batches = Batches(data, batch_size, trial.seed, self.device)

        self.model = build_model(config, trial.seed, self.device)
        self.model.forward_dtype = _forward_dtype(config.train.precision, self.device)
        self.optimizers = Optimizers(self.model, config.optim, config.train.max_steps, config.warmup_steps)
        self.ema = EMA(self.model, config.optim.ema_decay)
        self.chosen = Chosen()
        self.carry = self.model.initial_carry(batch_size, self.device)
        self.generator = torch.Generator(self.device)
        self.totals = torch.zeros(len(_SUMS), dtype=torch.float64, device=self.device)
        self.step, self.wall_s = 0, 0.0
        if trial.checkpoint is not None:
            self._load(trial.checkpoint)
        self.may_fail_to_compile: set[str] = set()  # the parts of a run that have not run yet
        if _compiles(config.train.compile, self.device):
            # One graph a shape: a dynamic one, made for the evaluation's batch, would serve training too.
            for block in self.model.blocks:
                block.compile(dynamic=False)
            if config.train.compile == "auto":
                self.may_fail_to_compile = {"training", "evaluation"}

    def run(self, on_step: Callable[[int], None] | None = None) -> None:
        """Train from `step` to the horizon. `on_step(step)` is called after every step is submitted."""
        max_steps, every = self.config.train.max_steps, self.config.eval_every_steps
        reported_step, reported_at = self.step, time.perf_counter()
        self.model.train()
        while self.step < max_steps:
            self.train_step(self.step + 1)
            if on_step is not None:
                on_step(self.step)
            if self.step % every and self.step < max_steps:
                continue
            steps = self.step - reported_step
            metrics = self._train_metrics(steps)  # waits for the device: the time is that of the steps
            train_s = time.perf_counter() - reported_at
            metrics["samples_per_s"] = steps * self.config.train.batch_size / train_s
            diverged = not math.isfinite(metrics["train/loss"])
            if not diverged:
                is_last = self.step == max_steps
                metrics |= self._or_uncompiled("evaluation", partial(self._evaluate, is_last))
            self.wall_s += time.perf_counter() - reported_at
            self._report(metrics | {"wall_s": self.wall_s})
            if diverged:
                return
            # `report` may have waited for others: that time is not the trial's.
            reported_step, reported_at = self.step, time.perf_counter()

    def close(self) -> None:
        """Give the memory back, for the next trial in this process; the trainer is of no use after this.

        Also where `run` was left by an exception, whose traceback keeps the trainer itself alive.
        """
        device, compiled = self.device, _compiles(self.config.train.compile, self.device)
        vars(self).clear()
        if compiled:  # or the next model meets the compiler's limit of variants for one function
            torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def train_step(self, step: int) -> None:
        """Take optimizer step `step`, the one after `self.step`."""
        inputs, labels = self.batches(step)
        carry, sums = self._or_uncompiled("training", partial(self._forward_backward, inputs, labels, step))
        self.optimizers.step(step)
        self.optimizers.zero_grad()
        self.ema.update(self.model)
        self.totals += torch.stack([sums[name].double() for name in _SUMS])
        self.carry, self.step = carry, step

    def _forward_backward(self, inputs: Tensor, labels: Tensor, step: int) -> tuple[Carry, dict[str, Tensor]]:
        self.generator.manual_seed(derive_seed(self.trial.seed, "halting", step))
        carry, output = self.model(self.carry, inputs, labels, self.generator)
        loss, sums = supervision_loss(output, carry, self.config.effective_loss)
        (loss / self.config.train.batch_size).backward()
        return carry, sums

    def _or_uncompiled(self, part: str, run: Callable[[], T]) -> T:
        """What `run` gives. Where the compiler fails when a part of the run comes for the first time, the run
        goes on without it."""
        try:
            result = run()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if part not in self.may_fail_to_compile:
                raise
            reason = str(error).strip().partition("\n")[0]
            log.warning("torch.compile failed, the run goes on without it (%s)", reason)
            for block in self.model.blocks:
                block._compiled_call_impl = None  # what Module.compile() set
            self.may_fail_to_compile.clear()
            self.optimizers.zero_grad()
            return run()
        self.may_fail_to_compile.discard(part)
        return result

    def _train_metrics(self, steps: int) -> dict[str, float]:
        """Means over the last `steps` steps; waits for the device. Where no row halted, only the losses."""
        sums = dict(zip(_SUMS, self.totals.tolist(), strict=True))
        self.totals.zero_()
        count = sums.pop("count")
        if not self.config.model.learns_to_continue:
            del sums["q_continue_loss"]
        samples = self.step * self.config.train.batch_size
        rows = steps * self.config.train.batch_size
        metrics = {
            "step": self.step,
            "samples": samples,
            "flops": samples * flops_per_sample(self.config),
            "lr": self.optimizers.lr,
        }
        for name, value in sums.items():
            if name in _LOSSES or count:
                metrics[f"train/{name}"] = value / (rows if name in _LOSSES else count)
        return metrics

    def _evaluate(self, is_last: bool) -> dict[str, float]:
        """Val with averaged and with raw weights; at the end all of val, and test with averaged weights and
        with those that val chose."""
        loss, batch_size = self.config.effective_loss, self.config.eval.batch_size
        val = self.val if is_last else self.val_subset
        raw = evaluate(self.model, val, loss, batch_size)
        averaged = raw
        metrics: dict[str, float] = {}
        with self.ema.swapped(self.model):
            if self.config.optim.ema_decay:
                averaged = evaluate(self.model, val, loss, batch_size)
            on_subset = averaged
            if val is not self.val_subset:  # or the choice would depend on where the run ends
                on_subset = evaluate(self.model, self.val_subset, loss, batch_size)
            self.chosen.offer(self.model, self.step, on_subset)
            if is_last and len(self.test.inputs):
                test = evaluate(self.model, self.test, loss, batch_size)
                metrics = {f"test/{name}": value for name, value in test.items() if name != "loss"}
        if is_last and len(self.test.inputs):
            with self.chosen.placed(self.model):
                metrics |= {"chosen_step": self.chosen.step}
                metrics |= depth.depth_metrics(self.model, self.config, self.test)
        metrics |= {f"val/{name}": value for name, value in averaged.items()}
        metrics |= {f"val/{name}_raw": raw[name] for name in ("cell_accuracy", "exact_accuracy")}
        return metrics

    def _report(self, metrics: dict[str, float]) -> None:
        ordered = {name: metrics[name] for name in metric_names(self.config) if name in metrics}
        with tempfile.TemporaryDirectory(prefix="trm-checkpoint-") as directory:
            save_checkpoint(Path(directory), self._state())
            self.trial.report(ordered, checkpoint=directory)

    def _state(self) -> dict[str, Any]:
        """Everything that the next step depends on; random states follow from the seed and the step."""
        return {
            "step": self.step,
            "seed": self.trial.seed,
            "wall_s": self.wall_s,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "chosen": self.chosen.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "carry": vars(self.carry),
            "config": _of_the_run(self.config),
            "data": self.data_hash,
            "torch": str(torch.__version__),
        }

    def _load(self, directory: Path) -> None:
        state = load_checkpoint(directory, self.device)
        if "chosen" not in state:
            raise CheckpointError(
                f"{directory}: was written by a version that did not keep the weights that val chose: start "
                f"anew, or go on with that version"
            )
        ours = {"config": _of_the_run(self.config), "seed": self.trial.seed, "data": self.data_hash}
        for name, value in ours.items():
            if state.get(name) != value:
                raise CheckpointError(
                    f"{directory}: is of another run: its {name} is {state.get(name)}, this run's {value}: "
                    f"go on with the same {name}, or start anew"
                )
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.chosen.load_state_dict(state["chosen"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.carry = Carry(**state["carry"])
        self.step, self.wall_s = state["step"], state["wall_s"]


def _of_the_run(config: TrialConfig) -> str:
    """The config as far as a step depends on it: a longer run goes on from a shorter one's end, and a faster
    one from a slower one's."""
    content = config.effective()
    if config.is_extendable:
        del content["train"]["max_samples"]
    return json.dumps(content)


@lru_cache(maxsize=2)
def _load_data(config: AnyTaskConfig) -> TaskData:
    """Kept from trial to trial: a sweep's worker runs many on the same data."""
    return config.load()


def _to(split: Split, device: torch.device) -> Split:
    return Split(*(column.to(device) for column in split))


def _forward_dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _compiles(choice: str, device: torch.device) -> bool:
    return choice == "on" or (choice == "auto" and device.type == "cuda")
