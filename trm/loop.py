"""The training loop of one trial.

As in the reference implementation, an optimizer step is one supervision step of every row in the carry, which
is kept across batches (arXiv 2510.04871, section 4). Evaluation uses the EMA weights and never halts early.

No operation of a step waits for the device. All random numbers of step t depend on (seed, t) alone, so that a
run that is interrupted and resumed on the same CPU is bit-equal to one that is not.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm.batches import Batches, derive_seed
from trm.checkpoint import FORMAT, CheckpointError, load_checkpoint, save_checkpoint
from trm.config import TrialConfig
from trm.cost import flops_per_sample
from trm.data import AnyTaskConfig
from trm.data.base import Split, TaskData
from trm.device import Compilation, forward_dtype, keep_freed_memory
from trm.evaluate import (
    SHARE,
    accuracies,
    depth_metric_units,
    depth_metrics,
    evaluate,
    fixed_subset,
    run_rows,
    run_test_rows,
)
from trm.losses import supervision_loss
from trm.model import Carry, build_model
from trm.optim import Optimizers
from trm.trial import Trial
from trm.weights import EMA, ChosenWeights

Q_CONTINUE = "train/q_continue_loss"  # reported only if q_continue is learned
_ACCURACIES = ("cell_accuracy", "exact_accuracy", "exact_accuracy_low", "exact_accuracy_high")
METRICS: dict[str, str | None] = {  # each metric's unit, in the order of a report
    **dict.fromkeys(("step", "samples", "flops", "wall_s", "samples_per_s", "lr")),
    **dict.fromkeys(("train/loss", "train/lm_loss", "train/q_halt_loss", Q_CONTINUE)),
    **dict.fromkeys(("train/cell_accuracy", "train/exact_accuracy", "train/q_halt_accuracy"), SHARE),
    **dict.fromkeys(("train/halt_steps", "val/loss")),
    **dict.fromkeys([f"val/{name}" for name in (*_ACCURACIES, "q_halt_accuracy")], SHARE),
    **dict.fromkeys(("val/cell_accuracy_raw", "val/exact_accuracy_raw"), SHARE),
    **dict.fromkeys([f"test/{name}" for name in (*_ACCURACIES, "q_halt_accuracy")], SHARE),
    "chosen_step": None,  # followed by those of `depth_metric_units`
}
# Means over all rows; the other training metrics are means over the rows that halt.
_LOSSES = ("loss", "lm_loss", "q_halt_loss", "q_continue_loss")
_SUMS = (*_LOSSES, "count", "cell_accuracy", "exact_accuracy", "q_halt_accuracy", "halt_steps")


def metric_units(config: TrialConfig) -> dict[str, str | None]:
    """All metrics that a trial may report, in the order of a report: the unit of each, SHARE or None."""
    model = config.model
    learned = [name for name in METRICS if name != Q_CONTINUE or model.learns_to_continue]
    learned = [name for name in learned if "q_halt" not in name or model.learns_to_halt]
    units = {name: METRICS[name] for name in learned}
    if config.data.accepted_metric is not None:
        units[f"test/{config.data.accepted_metric}"] = SHARE
    return units | depth_metric_units(config)


class Trainer:
    """One trial's model, optimizers and data; `step` is the number of optimizer steps done."""

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
        self.model.forward_dtype = forward_dtype(config.train.precision, self.device)
        self.optimizers = Optimizers(self.model, config.optim, config.train.max_steps, config.warmup_steps)
        self.ema = EMA(self.model, config.optim.ema_decay)
        self.chosen = ChosenWeights()
        self.carry = self.model.initial_carry(batch_size, self.device)
        self.generator = torch.Generator(self.device)
        self.totals = torch.zeros(len(_SUMS), dtype=torch.float64, device=self.device)
        self.step, self.wall_s = 0, 0.0
        if trial.checkpoint is not None:
            self._load(trial.checkpoint)
        self.compilation = Compilation(self.model.blocks, config.train.compile, self.device)

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
            metrics = self._train_metrics(steps)  # waits for the device, so that train_s covers the steps
            train_s = time.perf_counter() - reported_at
            metrics["samples_per_s"] = steps * self.config.train.batch_size / train_s
            diverged = not math.isfinite(metrics["train/loss"])
            if not diverged:
                is_last = self.step == max_steps
                metrics |= self.compilation.run("evaluation", partial(self._evaluate, is_last))
            self.wall_s += time.perf_counter() - reported_at
            self._report(metrics | {"wall_s": self.wall_s})
            if diverged:
                return
            # `report` may wait for other trials: its time does not count as the trial's.
            reported_step, reported_at = self.step, time.perf_counter()

    def close(self) -> None:
        """Free the memory for the next trial in this process; the trainer cannot be used afterwards.

        Its attributes are cleared because the traceback of an exception in `run` keeps the trainer alive.
        """
        device, compilation = self.device, self.compilation
        vars(self).clear()
        compilation.close()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def train_step(self, step: int) -> None:
        """Take optimizer step `step`, which is `self.step` + 1."""
        inputs, labels = self.batches(step)
        carry, sums = self.compilation.run("training", partial(self._forward_backward, inputs, labels, step))
        self.optimizers.step(step)
        self.optimizers.zero_grad()
        self.ema.update(self.model)
        self.totals += torch.stack([sums[name].double() for name in _SUMS])
        self.carry, self.step = carry, step

    def _forward_backward(self, inputs: Tensor, labels: Tensor, step: int) -> tuple[Carry, dict[str, Tensor]]:
        self.generator.manual_seed(derive_seed(self.trial.seed, "halting", step))
        self.optimizers.zero_grad()  # an earlier call may have failed to compile and left gradients
        carry, output = self.model(self.carry, inputs, labels, self.generator)
        loss, sums = supervision_loss(output, carry, self.config.effective_loss)
        (loss / self.config.train.batch_size).backward()
        return carry, sums

    def _train_metrics(self, steps: int) -> dict[str, float]:
        """Means over the last `steps` steps; only the losses if no row halted. Waits for the device."""
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
        """Metrics of val with averaged and with raw weights; at the end of all of val, and of test."""
        loss, batch_size = self.config.effective_loss, self.config.eval.batch_size
        val = self.val if is_last else self.val_subset
        raw = evaluate(self.model, val, loss, batch_size)
        averaged = raw
        with self.ema.swapped(self.model):
            if self.config.optim.ema_decay:
                averaged = evaluate(self.model, val, loss, batch_size)
            on_subset = averaged
            if val is not self.val_subset:  # the weights of every report are compared on the same rows
                on_subset = evaluate(self.model, self.val_subset, loss, batch_size)
            self.chosen.offer(self.model, self.step, on_subset)
        metrics = self._test() if is_last and len(self.test.inputs) else {}
        metrics |= {f"val/{name}": value for name, value in averaged.items()}
        metrics |= {f"val/{name}_raw": raw[name] for name in ("cell_accuracy", "exact_accuracy")}
        return metrics

    def _test(self) -> dict[str, float]:
        """Metrics of test with the averaged and with the chosen weights; one pass if these are the same."""
        with self.chosen.swapped(self.model):
            whole, deep = run_test_rows(self.model, self.config, self.test)
        last = whole
        if self.chosen.step != self.step:
            steps, batch_size = self.config.model.halt_max_steps, self.config.eval.batch_size
            with self.ema.swapped(self.model):
                last = run_rows(self.model, self.test, steps, batch_size, self.config.data)
        metrics = {f"test/{name}": value for name, value in accuracies(self.config, last).items()}
        return metrics | {"chosen_step": self.chosen.step} | depth_metrics(self.config, whole, deep)

    def _report(self, metrics: dict[str, float]) -> None:
        ordered = {name: metrics[name] for name in metric_units(self.config) if name in metrics}
        with tempfile.TemporaryDirectory(prefix="trm-checkpoint-") as directory:
            save_checkpoint(Path(directory), self._state())
            self.trial.report(ordered, checkpoint=directory)

    def _state(self) -> dict[str, Any]:
        """Everything that the next step depends on; random numbers depend on the seed and the step."""
        return {
            "step": self.step,
            "seed": self.trial.seed,
            "wall_s": self.wall_s,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "chosen": self.chosen.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "carry": vars(self.carry),
            "config": self.config.model_dump_json(),
            "format": FORMAT,
            "data": self.data_hash,
            "torch": str(torch.__version__),
        }

    def _load(self, directory: Path) -> None:
        state = load_checkpoint(directory, self.device)
        if "chosen" not in state:
            raise CheckpointError(
                f"{directory}: was written by an older version that did not keep the weights that were best "
                f"on val: start again without it, or resume with that version"
            )
        is_extendable = self.config.is_extendable
        state["config"] = _resume_key(json.loads(state["config"]), is_extendable)
        expected = {
            "config": _resume_key(self.config.model_dump(mode="json"), is_extendable),
            "seed": self.trial.seed,
            "data": self.data_hash,
        }
        for name, value in expected.items():
            if state.get(name) != value:
                raise CheckpointError(
                    f"{directory}: is of another run: its {name} is {state.get(name)}, this run's {value}: "
                    f"resume with the same {name}, or start again without the checkpoint"
                )
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.chosen.load_state_dict(state["chosen"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.carry = Carry(**state["carry"])
        self.step, self.wall_s = state["step"], state["wall_s"]


def _resume_key(config: dict[str, Any], is_extendable: bool) -> str:
    """The part of a config that must be equal to resume from a checkpoint, as JSON.

    Leaves out what changes only the speed (backend, compilation, evaluation batch), and the horizon if a
    longer run starts with the same steps.
    """
    content = {group: dict(values) for group, values in config.items()}
    content["train"].pop("compile", None)
    content["eval"].pop("batch_size", None)
    content["model"]["mixer"] = _without_backend(content["model"]["mixer"])
    if is_extendable:
        content["train"].pop("max_samples", None)
    return json.dumps(content)


def _without_backend(mixer: Any) -> Any:
    """The fields of a mixer, and of the mixers in it, without `backend`."""
    if isinstance(mixer, list):
        return [_without_backend(each) for each in mixer]
    if isinstance(mixer, dict):
        return {key: _without_backend(value) for key, value in mixer.items() if key != "backend"}
    return mixer


@lru_cache(maxsize=2)
def _load_data(config: AnyTaskConfig) -> TaskData:
    """The task's data, cached: a sweep's worker runs many trials on the same data."""
    return config.load()


def _to(split: Split, device: torch.device) -> Split:
    return Split(*(column.to(device) for column in split))
