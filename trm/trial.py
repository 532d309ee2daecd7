"""What a trainer gets beside its config: the trial. `LocalTrial` is the one without a sweep around it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trm.checkpoint import FILE, copy_checkpoint, load_checkpoint


class Trial(Protocol):
    """`seed` and `device` ("cpu", "cuda:0") of this run, and where it goes on from."""

    @property
    def seed(self) -> int: ...

    @property
    def device(self) -> str: ...

    @property
    def checkpoint(self) -> Path | None: ...

    def report(self, metrics: dict[str, float], checkpoint: str | Path | None = None) -> None:
        """Record `metrics` (`step` and `samples` among them) and keep a copy of the directory `checkpoint`.

        May raise to end the run: at a metric that is not finite, or where a scheduler stops the trial.
        """


@dataclass(frozen=True)
class NullTrial:
    """A trial that nobody listens to: of a few steps that are timed."""

    device: str
    seed: int = 0
    checkpoint: Path | None = None

    def report(self, metrics: dict[str, float], checkpoint: str | Path | None = None) -> None:
        pass


class Diverged(RuntimeError):
    """A reported metric is not finite."""


class LocalTrial:
    """A single run under `output`: `metrics.jsonl`, and the checkpoints `last` and `best` (by val accuracy).

    With `resume` it goes on from `last`; rows that were reported after that are dropped, as they come again.
    """

    def __init__(self, output: Path, seed: int, device: str, resume: bool = False) -> None:
        self.output, self.seed, self.device = output, seed, device
        self.metrics_file = output / "metrics.jsonl"
        self.history: list[dict[str, float]] = []
        output.mkdir(parents=True, exist_ok=True)
        has_checkpoint = resume and (output / "last" / FILE).exists()
        self.checkpoint = output / "last" if has_checkpoint else None
        if self.checkpoint:
            step = load_checkpoint(self.checkpoint, "cpu")["step"]
            self.history = [row for row in self._read() if row["step"] <= step]
        self.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in self.history))

    def report(self, metrics: dict[str, float], checkpoint: str | Path | None = None) -> None:
        """Raises Diverged where a metric is not finite; that report's checkpoint is not kept."""
        with self.metrics_file.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(f"diverged at step {metrics['step']:.0f}: {name} is {value}")
        is_best = all(_rank(metrics) > _rank(row) for row in self.history)
        self.history.append(metrics)
        if checkpoint is not None:
            copy_checkpoint(Path(checkpoint), self.output / "last")
            if is_best:
                copy_checkpoint(Path(checkpoint), self.output / "best")

    def _read(self) -> list[dict[str, float]]:
        if not self.metrics_file.exists():
            return []
        rows = []
        for line in self.metrics_file.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the line that a crash cut off
        return rows


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics.get("val/exact_accuracy", -math.inf), metrics.get("val/cell_accuracy", -math.inf)
