"""The training loop of one trial.

As in the reference implementation, an optimizer step is one supervision step of every row in the carry, which
is kept across batches (arXiv 2510.04871, section 4). Evaluation uses the EMA weights and never halts early.

No operation of a step waits for the device. All random numbers of step t depend on (seed, t) alone, so that a
run that is interrupted and resumed on the same CPU is bit-equal to one that is not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trm.batches import Batches, derive_seed
from trm.checkpoint import FORMAT, CheckpointError, load_to_resume, save_checkpoint
from trm.config import NO_EFFECT, TrialConfig
from trm.cost import compiling_pays, flops_per_sample
from trm.data import AnyTaskConfig
from trm.data.base import Split, TaskData
from trm.device import Compilation, forward_dtype, keep_freed_memory, set_matmul_precision
from trm.evaluate import (
    SHARE,
    RowResults,
    accuracies,
    depth_metric_units,
    depth_metrics,
    fixed_rows,
    fixed_subset,
    run_rows,
    run_test_rows,
)
from trm.losses import LOSSES, SUMS, supervision_loss
from trm.memory import step_memory
from trm.model import Carry, Noise, build_model
from trm.optim import Optimizers
from trm.trial import Trial, report_saving
from trm.weights import EMA, ChosenWeights

Q_CONTINUE = "train/q_continue_loss"  # reported only if q_continue is learned
_ACCURACIES = ("cell_accuracy", "exact_accuracy", "exact_accuracy_low", "exact_accuracy_high")
METRICS: dict[str, str | None] = {  # each metric's unit, in the order of a report
    **dict.fromkeys(("step", "samples", "flops", "wall_s", "samples_per_s", "lr")),
    **dict.fromkeys(("train/loss", "train/lm_loss", "train/q_halt_loss", Q_CONTINUE)),
    **dict.fromkeys(("train/cell_accuracy", "train/exact_accuracy", "train/q_halt_accuracy"), SHARE),
    **dict.fromkeys(("train/halt_steps", "compiled_training", "compiled_evaluation", "val/loss")),
    **dict.fromkeys([f"val/{name}" for name in (*_ACCURACIES, "q_halt_accuracy")], SHARE),
    **dict.fromkeys(("val/cell_accuracy_raw", "val/exact_accuracy_raw"), SHARE),
    **dict.fromkeys([f"test/{name}" for name in (*_ACCURACIES, "q_halt_accuracy")], SHARE),
    "chosen_step": None,  # followed by those of `depth_metric_units`
}


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
        self.val_rows = fixed_rows(len(self.val.inputs), config.eval.val_rows)
        self.val_subset = fixed_subset(self.val, config.eval.val_rows)
        batch_size = config.train.batch_size
        self.batches = Batches(data, batch_size, trial.seed, self.device)

        self.model = build_model(config, trial.seed, self.device)
        self.model.forward_dtype = forward_dtype(config.train.precision, self.device)
        set_matmul_precision(config.train.precision, self.device)
        self.optimizers = Optimizers(self.model, config.optim, config.train.max_steps, config.warmup_steps)
        self.ema = EMA(self.model, config.optim.ema_decay)
        self.chosen = ChosenWeights()
        self.carry = self.model.initial_carry(batch_size, self.device)
        self.generator = torch.Generator(self.device)
        self.totals = torch.zeros(len(SUMS), dtype=torch.float64, device=self.device)
        self.step, self.wall_s = 0, 0.0
        self.compilation = Compilation(
            self.model.blocks, _is_compiled(config, self.device), config.train.compile == "on"
        )
        if trial.checkpoint is not None:
            self._load(trial.checkpoint)

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
        device = self.device
        vars(self).clear()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def train_step(self, step: int) -> None:
        """Take optimizer step `step`, which is `self.step` + 1."""
        inputs, labels = self.batches(step)
        self.generator.manual_seed(derive_seed(self.trial.seed, "halting", step))
        noise = self.model.draw_noise(len(inputs), self.generator)
        self.optimizers.set_rates(step)
        try:
            self.update(inputs, labels, noise)
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError(self._too_large()) from error
        self.step = step

    def update(self, inputs: Tensor, labels: Tensor, noise: Noise | None) -> None:
        """The part of a step that a CUDA graph can hold: the host reads no value of it, and weights, moments,
        averages, carry and totals are changed in place."""
        passes = partial(self._forward_backward, inputs, labels, noise)
        carry, sums = self.compilation.run("training", passes)
        self.optimizers.step()
        self.optimizers.zero_grad()
        self.ema.update(self.model)
        self.totals += sums
        for part, rows in carry:
            self.carry.rows(rows).copy_(part)

    def _too_large(self) -> str:
        rows, needed = self.config.train.rows_at_once, step_memory(self.config, self.model.forward_dtype)
        return (
            f"a training step of {rows} rows at a time does not fit into the memory of {self.device}: it "
            f"needs {needed.total / 2**30:.1f} GiB or more (estimated; {needed.saved / 2**30:.1f} of it in "
            f"proportion to the rows): set train.micro_batch to a divisor of train.batch_size that is "
            f"smaller than {rows}"
        )

    def _forward_backward(
        self, inputs: Tensor, labels: Tensor, noise: Noise | None
    ) -> tuple[list[tuple[Carry, slice]], Tensor]:
        """The gradients of a step, in passes of `rows_at_once` rows: the new carry of each, and the sums."""
        self.optimizers.zero_grad()  # an earlier call may have failed to compile and left gradients
        carries, sums, size = [], torch.zeros_like(self.totals), self.config.train.rows_at_once
        for start in range(0, len(inputs), size):
            rows = slice(start, start + size)
            carry, output = self.model(
                self.carry.rows(rows), inputs[rows], labels[rows], noise and noise.rows(rows)
            )
            loss, of_rows = supervision_loss(output, carry, self.config.effective_loss)
            (loss / self.config.train.batch_size).backward()
            carries.append((carry, rows))
            sums += of_rows
        return carries, sums

    def _train_metrics(self, steps: int) -> dict[str, float]:
        """Means over the last `steps` steps; only the losses if no row halted. Waits for the device."""
        sums = dict(zip(SUMS, self.totals.tolist(), strict=True))
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
            **{f"compiled_{part}": int(is_on) for part, is_on in self.compilation.parts.items()},
        }
        for name, value in sums.items():
            if name in LOSSES or count:
                metrics[f"train/{name}"] = value / (rows if name in LOSSES else count)
        return metrics

    def _evaluate(self, is_last: bool) -> dict[str, float]:
        """Metrics of val with the averaged weights; at the end of all of val, with the raw ones too, and of
        test."""
        val = self.val if is_last else self.val_subset
        with self.ema.swapped(self.model):
            averaged = self.evaluate(val)
            # The weights of every report are compared on the same rows.
            on_subset = averaged.at(self.val_rows) if is_last else averaged
            self.chosen.offer(self.model, self.step, accuracies(self.config, on_subset))
        metrics = self._test() if is_last and len(self.test.inputs) else {}
        metrics |= {f"val/{name}": value for name, value in accuracies(self.config, averaged).items()}
        if is_last or self.config.eval.raw_weights == "every":
            raw = accuracies(self.config, self.evaluate(val) if self.config.optim.ema_decay else averaged)
            metrics |= {f"val/{name}_raw": raw[name] for name in ("cell_accuracy", "exact_accuracy")}
        return metrics

    def _test(self) -> dict[str, float]:
        """Metrics of test with the averaged and with the chosen weights; one pass if these are the same."""
        with self.chosen.swapped(self.model):
            whole, deep = run_test_rows(self.model, self.config, self.test, self._padded_to)
        last = whole
        if self.chosen.step != self.step:
            with self.ema.swapped(self.model):
                last = self.evaluate(self.test)
        metrics = {f"test/{name}": value for name, value in accuracies(self.config, last).items()}
        return metrics | {"chosen_step": self.chosen.step} | depth_metrics(self.config, whole, deep)

    def evaluate(self, split: Split) -> RowResults:
        """Results of a split's rows with the weights that the model has."""
        return run_rows(self.model, split, self.config, padded_to=self._padded_to)

    @property
    def _padded_to(self) -> int | None:
        """The rows of a training pass, so that evaluation runs the same graph; None if it is not compiled."""
        return self.config.train.rows_at_once if self.compilation.parts["evaluation"] else None

    def _report(self, metrics: dict[str, float]) -> None:
        ordered = {name: metrics[name] for name in metric_units(self.config) if name in metrics}
        report_saving(self.trial, ordered, lambda folder: save_checkpoint(folder, *self._state()))

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Everything that the next step depends on; random numbers depend on the seed and the step. Apart
        from it, what only resuming needs."""
        resume = {
            "wall_s": self.wall_s,
            "optimizers": self.optimizers.state_dict(),
            "carry": vars(self.carry),
        }
        return {
            "step": self.step,
            "seed": self.trial.seed,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "chosen": self.chosen.state_dict(),
            "config": self.config.model_dump_json(),
            "compiled": self.compilation.parts,
            "format": FORMAT,
            "data": self.data_hash,
            "torch": str(torch.__version__),
        }, resume

    def _load(self, directory: Path) -> None:
        state = load_to_resume(directory, self.device)
        if "chosen" not in state:
            raise CheckpointError(
                f"{directory}: was written by an older version that did not keep the weights that were best "
                f"on val: start again without it, or resume with that version"
            )
        is_extendable = self.config.is_extendable
        state["config"] = _resume_key(_recorded(state["config"]), is_extendable)
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
        self.carry.copy_(Carry(**state["carry"]))
        self.compilation.keep(state.get("compiled", {}))
        self.step, self.wall_s = state["step"], state["wall_s"]


def _is_compiled(config: TrialConfig, device: torch.device) -> bool:
    """`auto` compiles on a GPU, and on a CPU where that pays over the whole horizon."""
    if config.train.compile == "auto":
        return device.type == "cuda" or (device.type == "cpu" and compiling_pays(config))
    return config.train.compile == "on"


def _recorded(config: str) -> dict[str, Any]:
    """A checkpoint's config as this version records it; as it stands, if this version has no such config."""
    content: dict[str, Any] = json.loads(config)
    with suppress(ValidationError):
        return TrialConfig.recorded(content).model_dump(mode="json")
    return content


def _resume_key(config: dict[str, Any], is_extendable: bool) -> str:
    """The part of a config that must be equal to resume from a checkpoint, as JSON.

    Leaves out what changes no result (NO_EFFECT, and the backend), and the horizon if a longer run starts
    with the same steps.
    """
    content = {group: dict(values) for group, values in config.items()}
    for group, key in NO_EFFECT:
        content[group].pop(key, None)
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
