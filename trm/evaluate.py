"""Evaluation of a model on a split, with the interval that its size allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trm.config import LossConfig
from trm.data.base import Split
from trm.losses import supervision_loss
from trm.model import TRM, Carry, Output

_SUBSET_SEED = 0  # one subset for all trials, whatever their seeds: they are compared on the same puzzles


def wilson_interval(accuracy: float, n: int) -> tuple[float, float]:
    """95% interval of a proportion over n rows (Wilson 1927); within [0, 1] also at 0 and 1."""
    z = 1.959963984540054
    centre = accuracy + z * z / (2 * n)
    half = z * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def fixed_subset(split: Split, rows: int) -> Split:
    """`rows` puzzles of the split, always the same ones; all of it where it has no more."""
    n = len(split.inputs)
    if rows >= n:
        return split
    generator = torch.Generator().manual_seed(_SUBSET_SEED)
    chosen = torch.randperm(n, generator=generator)[:rows].sort().values
    return Split(*(column[chosen.to(column.device)] for column in split))


def equal_batches(n: int, batch_size: int, device: torch.device) -> Iterator[tuple[torch.Tensor, int]]:
    """Row numbers of each batch, and how many of them count, from the first on.

    Batches have equal sizes, `batch_size` at most, and the last one is filled up with repeated rows that do
    not count: a compiled model then sees one shape.
    """
    size = math.ceil(n / math.ceil(n / batch_size))
    for start in range(0, n, size):
        rows = torch.arange(start, start + size, device=device).clamp(max=n - 1)
        yield rows, min(size, n - start)


@contextmanager
def evaluating(model: TRM) -> Iterator[None]:
    """The model in evaluation mode and without gradients; afterwards as it was, whatever happens."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def evaluate(model: TRM, split: Split, loss: LossConfig, batch_size: int) -> dict[str, float]:
    """Means over the rows of `split` after all `halt_max_steps` supervision steps, as in the reference.

    Gives `loss`, `cell_accuracy`, `exact_accuracy`, `exact_accuracy_low`, `exact_accuracy_high`,
    `q_halt_accuracy`. `split` is on the model's device.
    """
    n = len(split.inputs)
    names: list[str] = []
    totals = torch.zeros((), dtype=torch.float64, device=split.inputs.device)
    with evaluating(model):
        for rows, count in equal_batches(n, batch_size, split.inputs.device):
            carry, output = _run(model, split.inputs[rows], split.labels[rows])
            carry, output = _first_rows(carry, output, count)
            _, sums = supervision_loss(output, carry, loss)
            names = list(sums)
            totals = totals + torch.stack([value.double() for value in sums.values()])
    means = dict(zip(names, (totals / n).tolist(), strict=True))
    low, high = wilson_interval(means["exact_accuracy"], n)
    return {
        "loss": means["loss"],
        "cell_accuracy": means["cell_accuracy"],
        "exact_accuracy": means["exact_accuracy"],
        "exact_accuracy_low": low,
        "exact_accuracy_high": high,
        "q_halt_accuracy": means["q_halt_accuracy"],
    }


def _run(model: TRM, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[Carry, Output]:
    carry = model.initial_carry(len(inputs), inputs.device)
    carry, output = model(carry, inputs, labels)
    for _ in range(model.config.halt_max_steps - 1):
        carry, output = model(carry, inputs, labels)
    return carry, output


def _first_rows(carry: Carry, output: Output, n: int) -> tuple[Carry, Output]:
    return Carry(**{name: value[:n] for name, value in vars(carry).items()}), Output(
        output.logits[:n], output.q_halt_logits[:n]
    )
