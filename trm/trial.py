"""The trial: a trainer's second argument, beside its config. `LocalTrial` is for a run without a sweep."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from trm.checkpoint import FILE, Save, keep_last, keep_weights, load_checkpoint, restore_last


class Trial(Protocol):
    """`seed` and `device` ("cpu", "cuda:0") of a run, and the checkpoint to resume from, if any."""

    @property
    def seed(self) -> int: ...

    @property
    def device(self) -> str: ...

    @property
    def checkpoint(self) -> Path | None: ...

    def report(self, metrics: dict[str, float], checkpoint: str | Path | Save | None = None) -> None:
        """Record `metrics` (`step` and `samples` among them) and keep a copy of the directory `checkpoint`.

        A trial whose `saves_in_place` is True also takes a function, and has it write the checkpoint where it
        is kept. May raise to end the run: if a metric is not finite, or if a scheduler stops the trial.
        """


def report_saving(trial: Trial, metrics: dict[str, float], save: Save) -> None:
    """Report `metrics` with the checkpoint that `save` writes: where it is kept, if the trial can do that;
    else in a temporary folder, of which the trial makes a copy."""
    if getattr(trial, "saves_in_place", False):
        trial.report(metrics, checkpoint=save)
        return
    with tempfile.TemporaryDirectory(prefix="trm-checkpoint-") as folder:
        save(Path(folder))
        trial.report(metrics, checkpoint=folder)


@dataclass(frozen=True)
class NullTrial:
    """A trial that discards its reports, for timing a few steps."""

    saves_in_place: ClassVar[bool] = True
    device: str
    seed: int = 0
    checkpoint: Path | None = None

    def report(self, metrics: dict[str, float], checkpoint: str | Path | Save | None = None) -> None:
        pass


class Diverged(RuntimeError):
    """A reported metric is not finite."""


class LocalTrial:
    """A run in the folder `output`: `metrics.jsonl`, and checkpoints `last` and `best` (by val accuracy).

    With `resume` it starts from `last`. Reports after that checkpoint are dropped, because they are repeated.
    `best` has the weights alone.
    """

    saves_in_place = True

    def __init__(self, output: Path, seed: int, device: str, resume: bool = False) -> None:
        self.output, self.seed, self.device = output, seed, device
        self.metrics_file = output / "metrics.jsonl"
        self.history: list[dict[str, float]] = []
        output.mkdir(parents=True, exist_ok=True)
        restore_last(output / "last")
        has_checkpoint = resume and (output / "last" / FILE).exists()
        self.checkpoint = output / "last" if has_checkpoint else None
        if self.checkpoint:
            step = load_checkpoint(self.checkpoint, "cpu")["step"]
            self.history = [row for row in self._stored_reports() if row["step"] <= step]
            if self._last_is_best():  # a crash may have come before its weights were kept as the best ones
                keep_weights(self.checkpoint, output / "best")
        self.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in self.history))

    def report(self, metrics: dict[str, float], checkpoint: str | Path | Save | None = None) -> None:
        """Raises Diverged if a metric is not finite; the checkpoint of that report is not kept."""
        with self.metrics_file.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(f"diverged at step {metrics['step']:.0f}: {name} is {value}")
        self.history.append(metrics)
        if checkpoint is not None:
            keep_last(checkpoint, self.output / "last")
            if self._last_is_best():
                keep_weights(self.output / "last", self.output / "best")

    def _last_is_best(self) -> bool:
        *earlier, last = self.history or [{}]
        return bool(last) and all(_rank(last) > _rank(row) for row in earlier)

    def _stored_reports(self) -> list[dict[str, float]]:
        if not self.metrics_file.exists():
            return []
        rows = []
        for line in self.metrics_file.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # a crash cut this line off
        return rows


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics.get("val/exact_accuracy", -math.inf), metrics.get("val/cell_accuracy", -math.inf)
