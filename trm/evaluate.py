"""Evaluation of a model on a split: the accuracies with their interval, and what the test split tells beyond
one number.

All rows of test are run to `halt_max_steps` supervision steps, where training and evaluation end. The same
`eval.depth_rows` rows of every trial go on to `eval.depth_steps`: more thinking at test time than in training
(inference-time scaling in arXiv 2506.21734). A row is solved where every labelled cell is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trm.config import LossConfig, TrialConfig
from trm.data.base import Split
from trm.losses import supervision_loss
from trm.model import TRM, Carry, Output

ECE_BINS = 10  # equally wide; few, as a bin's gap has the noise of its rows in it
_NO_END = 2**31
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


def equal_batches(n: int, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, int]]:
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


def _run(model: TRM, inputs: Tensor, labels: Tensor) -> tuple[Carry, Output]:
    carry = model.initial_carry(len(inputs), inputs.device)
    carry, output = model(carry, inputs, labels)
    for _ in range(model.config.halt_max_steps - 1):
        carry, output = model(carry, inputs, labels)
    return carry, output


def _first_rows(carry: Carry, output: Output, n: int) -> tuple[Carry, Output]:
    return Carry(**{name: value[:n] for name, value in vars(carry).items()}), Output(
        output.logits[:n], output.q_halt_logits[:n]
    )


class RowResults(NamedTuple):
    """One pass over N rows to T supervision steps, on the CPU."""

    solved: Bool[Tensor, "N T"]  # after each step
    cell_accuracy: Float[Tensor, " N"]  # after step halt_max_steps, over the row's labelled cells
    q_halt_logits: Float[Tensor, " N"]  # after step halt_max_steps
    ratings: Int[Tensor, " N"]


def depth_metric_names(config: TrialConfig) -> list[str]:
    """All that `figures` may give for this config, in the order of tables."""
    halt_max_steps, buckets = config.model.halt_max_steps, rating_buckets(config.data.rating_bounds)
    names = [f"chosen_exact_accuracy{end}" for end in ("", "_low", "_high")]
    names += [f"exact_accuracy_at_{t}" for t in curve_steps(halt_max_steps, config.eval.depth_steps)]
    names += [f"{what}_rating_{bucket}" for what in ("exact_accuracy", "rows") for bucket in buckets]
    names += [*["q_auroc", "q_ece"] * config.model.learns_to_halt, "solved_then_lost"]
    if config.eval.depth_steps > halt_max_steps:
        names.append(f"solved_then_lost_at_{config.eval.depth_steps}")
    return [f"test/{name}" for name in names]


def curve_steps(halt_max_steps: int, depth_steps: int) -> list[int]:
    """1, 2, 4, ... up to `depth_steps`, that number itself, and `halt_max_steps`, where the curve is read."""
    powers = {2**k for k in range(depth_steps.bit_length())}
    return sorted((powers | {depth_steps, halt_max_steps}) - {0})


def rating_buckets(bounds: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Name, first rating and the one after the last: (0, 1, 10) gives buckets `0`, `1_9` and `10_up`."""
    buckets = {}
    for low, high in zip(bounds, (*bounds[1:], _NO_END), strict=True):
        name = f"{low}_up" if high == _NO_END else f"{low}_{high - 1}" if high - 1 > low else str(low)
        buckets[name] = (low, high)
    return buckets


def run_test_rows(model: TRM, config: TrialConfig, test: Split) -> tuple[RowResults, RowResults]:
    """All of `test`, which is on the model's device, and the rows that go deeper; see `figures`."""
    halt_max_steps, settings = config.model.halt_max_steps, config.eval
    subset = fixed_subset(test, settings.depth_rows)
    deep = run_rows(model, subset, max(settings.depth_steps, halt_max_steps), settings.batch_size)
    whole = deep if subset is test else run_rows(model, test, halt_max_steps, settings.batch_size)
    return whole, deep


def run_rows(model: TRM, split: Split, steps: int, batch_size: int) -> RowResults:
    """Run every row of `split`, which is on the model's device, to so many supervision steps.

    At least to `halt_max_steps`. Nothing waits for the device before all rows are through.
    """
    solved, cell_accuracy, q_halt_logits = [], [], []
    with evaluating(model):
        for rows, count in equal_batches(len(split.inputs), batch_size, split.inputs.device):
            inputs, labels = split.inputs[rows], split.labels[rows]
            labelled = labels > 0
            carry, by_step = model.initial_carry(len(rows), rows.device), []
            for step in range(1, steps + 1):
                carry, output = model(carry, inputs, labels)
                carry = replace(carry, halted=torch.zeros_like(carry.halted))  # or it would begin anew
                right = (output.logits.argmax(-1) == labels) | ~labelled
                by_step.append(right.all(-1) & labelled.any(-1))
                if step == model.config.halt_max_steps:
                    cells = (right & labelled).sum(-1) / labelled.sum(-1).clamp(min=1)
                    cell_accuracy.append(cells[:count])
                    q_halt_logits.append(output.q_halt_logits[:count])
            solved.append(torch.stack(by_step, dim=1)[:count])
    at_step, share, logits = (torch.cat(column).cpu() for column in (solved, cell_accuracy, q_halt_logits))
    return RowResults(at_step, share, logits, split.ratings.cpu())


def accuracies(config: TrialConfig, whole: RowResults) -> dict[str, float]:
    """What `evaluate` gives of the same rows, but the loss."""
    solved = whole.solved[:, config.model.halt_max_steps - 1]
    accuracy = _share(solved)
    low, high = wilson_interval(accuracy, len(solved))
    return {
        "cell_accuracy": float(whole.cell_accuracy.double().mean()),
        "exact_accuracy": accuracy,
        "exact_accuracy_low": low,
        "exact_accuracy_high": high,
        "q_halt_accuracy": _share((whole.q_halt_logits >= 0) == solved),
    }


def depth_metrics(config: TrialConfig, whole: RowResults, deep: RowResults) -> dict[str, float]:
    """The metrics of `metric_names`; what the rows do not define is left out.

    Of `whole`, after `halt_max_steps` steps: `chosen_exact_accuracy`, with its Wilson interval over the rows;
    `exact_accuracy_rating_LOW_HIGH`, of the rows with such a rating, of which there are
    `rows_rating_LOW_HIGH` (without any it is left out); `q_auroc` (left out where all rows are solved, or
    none) and `q_ece`, of the halting head against that step's answer, where it is trained; and
    `solved_then_lost`, the share of all rows that were solved after some step up to `halt_max_steps` and are
    not after that one.
    Of `deep`: `exact_accuracy_at_T`, the share solved after T steps, and `solved_then_lost_at_T`, as above
    with T for `halt_max_steps`.
    """
    halt_max_steps, depth_steps = config.model.halt_max_steps, config.eval.depth_steps
    at_the_end = whole.solved[:, halt_max_steps - 1]
    told = accuracies(config, whole)
    metrics = {f"chosen_{name}": told[name] for name in told if name.startswith("exact_accuracy")}
    for t in curve_steps(halt_max_steps, depth_steps):
        metrics[f"exact_accuracy_at_{t}"] = _share(deep.solved[:, t - 1])
    for bucket, (first, end) in rating_buckets(config.data.rating_bounds).items():
        rated = (whole.ratings >= first) & (whole.ratings < end)
        metrics[f"rows_rating_{bucket}"] = float(rated.sum())
        if rated.any():
            metrics[f"exact_accuracy_rating_{bucket}"] = _share(at_the_end[rated])
    if config.model.learns_to_halt:
        if at_the_end.any() and not at_the_end.all():
            metrics["q_auroc"] = auroc(whole.q_halt_logits, at_the_end)
        metrics["q_ece"] = calibration_error(whole.q_halt_logits, at_the_end)
    metrics["solved_then_lost"] = solved_then_lost(whole.solved[:, :halt_max_steps])
    if depth_steps > halt_max_steps:
        metrics[f"solved_then_lost_at_{depth_steps}"] = solved_then_lost(deep.solved)
    return {f"test/{name}": value for name, value in metrics.items()}


def solved_then_lost(solved: Bool[Tensor, "N T"]) -> float:
    """Share of all N rows that are solved after one of the T steps and not after the last one."""
    return _share(solved.any(1) & ~solved[:, -1])


def auroc(scores: Float[Tensor, " N"], is_right: Bool[Tensor, " N"]) -> float:
    """Probability that a right row has the higher score than a wrong one; equal scores count half.

    The area under the ROC curve, by the rank sum (Mann and Whitney 1947). Needs rows of both kinds.
    """
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    mean_ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2
    n_right = int(is_right.sum())
    least = n_right * (n_right + 1) / 2  # the rank sum where every right row is below every wrong one
    pairs = n_right * (len(scores) - n_right)
    return float((mean_ranks[place][is_right].sum() - least) / pairs)


def calibration_error(logits: Float[Tensor, " N"], is_right: Bool[Tensor, " N"]) -> float:
    """Expected calibration error of sigmoid(logits) as the probability of being right, over ECE_BINS bins.

    Guo et al. 2017 (arXiv 1706.04599), equation 3: the mean of |mean probability - share right| over the
    bins, weighted by their rows. Here the bins hold their lower end, and there are 10 instead of 15.
    """
    probability = logits.double().sigmoid()
    bins = (probability * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    gaps = torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, bins, probability - is_right.double())
    return float(gaps.abs().sum() / len(logits))


def _share(rows: Bool[Tensor, " N"]) -> float:
    return float(rows.double().mean())
