"""Evaluation of a model on a split.

`run_rows` gives the results of each row after each supervision step, from one pass over the split; the other
functions make metrics of them. `halt_max_steps` steps are the most that a puzzle gets in training. A fixed
subset of `eval.depth_rows` test rows runs on to `eval.depth_steps`, to measure inference-time scaling (more
steps at test time than in training, arXiv 2506.21734).

A row is solved if every labelled cell is right. No row halts early in evaluation. Splits are on the model's
device.
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

from trm.config import TrialConfig
from trm.data.base import Split
from trm.losses import answers, row_losses
from trm.model import TRM, Carry, Output

SHARE = "share"  # the unit of a metric from 0 to 1
Z_95 = 1.959963984540054  # standard errors on each side of a 95% interval
ECE_BINS = 10  # of equal width; few, because the noise of a bin's rows adds to its gap
_NO_UPPER_BOUND = 2**31
_SUBSET_SEED = 0  # the same for all trials, whatever their seeds: they are compared on the same puzzles


class RowResults(NamedTuple):
    """Results of N rows after each of T supervision steps, on the CPU."""

    solved: Bool[Tensor, "N T"]
    cell_accuracy: Float[Tensor, "N T"]  # over the row's labelled cells
    loss: Float[Tensor, " N"]  # after step halt_max_steps, as the two below
    q_halt_logits: Float[Tensor, " N"]
    ratings: Int[Tensor, " N"]
    accepted: Bool[Tensor, " N"] | None = None  # by the task's `accepts`, if it has a metric for that

    def at(self, rows: Int[Tensor, " M"]) -> RowResults:
        columns = {name: column[rows] for name, column in self._asdict().items() if column is not None}
        return RowResults(**columns)


def run_rows(
    model: TRM, split: Split, config: TrialConfig, steps: int | None = None, padded_to: int | None = None
) -> RowResults:
    """Run every row of `split` for `steps` supervision steps, by default and at least `halt_max_steps`.

    In batches of `eval.batch_size`, or of exactly `padded_to` rows. Waits for the device only once, after the
    last row.
    """
    halt_max_steps = config.model.halt_max_steps
    steps = steps or halt_max_steps
    solved: list[list[Tensor]] = [[] for _ in range(steps)]  # by step, then by batch
    cell_accuracy: list[list[Tensor]] = [[] for _ in range(steps)]
    loss, q_halt_logits, predicted = [], [], []
    with evaluating(model):
        for step, carry, output in run_steps(model, split, steps, config.eval.batch_size, padded_to):
            answered = answers(output.logits, carry.labels)
            solved[step - 1].append(answered.solved)
            cell_accuracy[step - 1].append(answered.right_cells)
            if step == halt_max_steps:
                settings = config.effective_loss
                loss.append(row_losses(output, carry.labels, answered, settings).total(settings))
                q_halt_logits.append(output.q_halt_logits)
                if config.data.accepted_metric is not None:
                    predicted.append(output.logits.argmax(-1).to(torch.uint8))
    accepted = None
    if predicted:
        accepted = config.data.accepts(split.inputs.cpu(), torch.cat(predicted).cpu())
    return RowResults(
        torch.stack([torch.cat(batches) for batches in solved], dim=1).cpu(),
        torch.stack([torch.cat(batches) for batches in cell_accuracy], dim=1).cpu(),
        torch.cat(loss).cpu(),
        torch.cat(q_halt_logits).cpu(),
        split.ratings.cpu(),
        accepted,
    )


def run_test_rows(
    model: TRM, config: TrialConfig, test: Split, padded_to: int | None = None
) -> tuple[RowResults, RowResults]:
    """Results of all rows of `test` up to `halt_max_steps`, and of `depth_rows` of them up to `depth_steps`.

    One pass serves both if the split has no more than `depth_rows` rows.
    """
    settings = config.eval
    deep_steps = max(settings.depth_steps, config.model.halt_max_steps)
    subset = fixed_subset(test, settings.depth_rows)
    deep = run_rows(model, subset, config, deep_steps, padded_to)
    return (deep if subset is test else run_rows(model, test, config, None, padded_to)), deep


def accuracies(config: TrialConfig, results: RowResults) -> dict[str, float]:
    """Means over the rows after `halt_max_steps` supervision steps, as in the reference: `loss`,
    `cell_accuracy`, `exact_accuracy`, its 95% interval `exact_accuracy_low` and `_high`, `q_halt_accuracy`,
    and the task's `accepted_metric`, if it has one."""
    solved = results.solved[:, config.model.halt_max_steps - 1]
    metrics = {
        "loss": float(results.loss.double().mean()),
        "cell_accuracy": float(results.cell_accuracy[:, config.model.halt_max_steps - 1].double().mean()),
        **_with_interval(_share(solved), len(solved)),
        "q_halt_accuracy": _share((results.q_halt_logits >= 0) == solved),
    }
    if results.accepted is not None:
        metrics[str(config.data.accepted_metric)] = _share(results.accepted)
    return metrics


def depth_metrics(config: TrialConfig, whole: RowResults, deep: RowResults) -> dict[str, float]:
    """The metrics named by `depth_metric_units`; a metric that the rows do not define is left out.

    From `whole`, all rows after `halt_max_steps` steps:
        chosen_exact_accuracy           with its 95% interval
        chosen_NAME                     of the task's `accepted_metric`, if it has one
        exact_accuracy_rating_LOW_HIGH  of the rows with such a rating; left out if there are none
        rows_rating_LOW_HIGH            the number of those rows
        q_auroc, q_ece                  of the halting head as a predictor of "this row is solved", if it is
                                        trained; q_auroc is left out if all rows are solved, or none is
        solved_then_lost                share of all rows that are solved after an earlier step and not after
                                        the last one
    From `deep`, the subset that runs to `depth_steps`:
        exact_accuracy_at_T             share of rows solved after T steps
        solved_then_lost_at_T           as above, with T as the last step
    """
    halt_max_steps, depth_steps = config.model.halt_max_steps, config.eval.depth_steps
    solved = whole.solved[:, halt_max_steps - 1]
    intervals = _with_interval(_share(solved), len(solved))
    metrics = {f"chosen_{name}": value for name, value in intervals.items()}
    if whole.accepted is not None:
        metrics[f"chosen_{config.data.accepted_metric}"] = _share(whole.accepted)
    for t in curve_steps(halt_max_steps, depth_steps):
        metrics[f"exact_accuracy_at_{t}"] = _share(deep.solved[:, t - 1])
    for bucket, rated in rows_by_rating(config, whole.ratings):
        metrics[f"rows_rating_{bucket}"] = float(rated.sum())
        if rated.any():
            metrics[f"exact_accuracy_rating_{bucket}"] = _share(solved[rated])
    if config.model.learns_to_halt:
        metrics |= halting_metrics(whole.q_halt_logits, solved)
    metrics["solved_then_lost"] = solved_then_lost(whole.solved[:, :halt_max_steps])
    if depth_steps > halt_max_steps:
        metrics[f"solved_then_lost_at_{depth_steps}"] = solved_then_lost(deep.solved)
    return {f"test/{name}": value for name, value in metrics.items()}


def halting_metrics(q_halt_logits: Float[Tensor, " N"], solved: Bool[Tensor, " N"]) -> dict[str, float]:
    """`q_ece`, and `q_auroc` unless all rows are solved, or none is."""
    metrics = {"q_ece": calibration_error(q_halt_logits, solved)}
    if solved.any() and not solved.all():
        metrics["q_auroc"] = auroc(q_halt_logits, solved)
    return metrics


def rows_by_rating(
    config: TrialConfig, ratings: Int[Tensor, " N"]
) -> Iterator[tuple[str, Bool[Tensor, " N"]]]:
    """Each bucket's name, and which rows are in it."""
    for bucket, (first, end) in rating_buckets(config.data.rating_bounds).items():
        yield bucket, (ratings >= first) & (ratings < end)


def depth_metric_units(config: TrialConfig) -> dict[str, str | None]:
    """All metrics that `depth_metrics` may return for this config, in the order of tables: the unit of each,
    SHARE or None."""
    halt_max_steps, buckets = config.model.halt_max_steps, rating_buckets(config.data.rating_bounds)
    shares = [f"chosen_exact_accuracy{end}" for end in ("", "_low", "_high")]
    if config.data.accepted_metric is not None:
        shares.append(f"chosen_{config.data.accepted_metric}")
    shares += [f"exact_accuracy_at_{t}" for t in curve_steps(halt_max_steps, config.eval.depth_steps)]
    shares += [f"exact_accuracy_rating_{bucket}" for bucket in buckets]
    units: dict[str, str | None] = dict.fromkeys(shares, SHARE)
    units |= dict.fromkeys([f"rows_rating_{bucket}" for bucket in buckets])
    shares = [*["q_auroc", "q_ece"] * config.model.learns_to_halt, "solved_then_lost"]
    if config.eval.depth_steps > halt_max_steps:
        shares.append(f"solved_then_lost_at_{config.eval.depth_steps}")
    units |= dict.fromkeys(shares, SHARE)
    return {f"test/{name}": unit for name, unit in units.items()}


def curve_steps(halt_max_steps: int, depth_steps: int) -> list[int]:
    """1, 2, 4, ... up to `depth_steps`; and `depth_steps` and `halt_max_steps` themselves."""
    powers = {2**k for k in range(depth_steps.bit_length())}
    return sorted((powers | {depth_steps, halt_max_steps}) - {0})


def rating_buckets(bounds: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Half-open ranges of ratings by name: bounds (0, 1, 10) give buckets `0`, `1_9` and `10_up`."""
    buckets = {}
    for low, high in zip(bounds, (*bounds[1:], _NO_UPPER_BOUND), strict=True):
        name = f"{low}_up" if high == _NO_UPPER_BOUND else f"{low}_{high - 1}" if high - 1 > low else str(low)
        buckets[name] = (low, high)
    return buckets


def _with_interval(exact_accuracy: float, n: int) -> dict[str, float]:
    low, high = wilson_interval(exact_accuracy, n)
    return {"exact_accuracy": exact_accuracy, "exact_accuracy_low": low, "exact_accuracy_high": high}


def wilson_interval(accuracy: float, n: int) -> tuple[float, float]:
    """95% interval of a proportion over n rows (Wilson 1927); always within [0, 1]."""
    z = Z_95
    centre = accuracy + z * z / (2 * n)
    half = z * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - half) / scale, (centre + half) / scale
    return low if accuracy > 0 else 0.0, high if accuracy < 1 else 1.0  # where rounding would miss the bound


def solved_then_lost(solved: Bool[Tensor, "N T"]) -> float:
    """Share of all N rows that are solved after one of the T steps but not after the last one."""
    return _share(solved.any(1) & ~solved[:, -1])


def auroc(scores: Float[Tensor, " N"], is_right: Bool[Tensor, " N"]) -> float:
    """Probability that a right row has the higher score than a wrong one; equal scores count half.

    The area under the ROC curve, by the rank sum (Mann and Whitney 1947). Needs rows of both kinds.
    """
    _, rank_index, counts = scores.unique(return_inverse=True, return_counts=True)
    mean_ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2
    n_right = int(is_right.sum())
    least = n_right * (n_right + 1) / 2  # the rank sum if every right row scores below every wrong one
    pairs = n_right * (len(scores) - n_right)
    return float((mean_ranks[rank_index][is_right].sum() - least) / pairs)


def calibration_error(logits: Float[Tensor, " N"], is_right: Bool[Tensor, " N"]) -> float:
    """Expected calibration error of sigmoid(logits) as the probability of being right, over ECE_BINS bins.

    Guo et al. 2017 (arXiv 1706.04599), equation 3: the mean of |mean probability - share right| over the
    bins, weighted by their number of rows. A bin includes its lower end; there are 10 bins instead of 15.
    """
    probability = logits.double().sigmoid()
    bins = (probability * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    gaps = torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, bins, probability - is_right.double())
    return float(gaps.abs().sum() / len(logits))


def _share(rows: Bool[Tensor, " N"]) -> float:
    return float(rows.double().mean())


def fixed_rows(n: int, most: int) -> Int[Tensor, " rows"]:
    """The numbers of `most` of n rows, in order and always the same ones; of all, if there are no more."""
    generator = torch.Generator().manual_seed(_SUBSET_SEED)
    return torch.randperm(n, generator=generator)[:most].sort().values


def fixed_subset(split: Split, most: int) -> Split:
    """The rows of `fixed_rows`; the split itself if these are all of it."""
    n = len(split.inputs)
    if most >= n:
        return split
    return Split(*(column[fixed_rows(n, most).to(column.device)] for column in split))


def equal_batches(n: int, size: int, device: torch.device) -> Iterator[tuple[Tensor, int]]:
    """Batches of exactly `size` row numbers, and how many rows of each count (the first ones).

    The last batch is padded with the last row; these repetitions do not count.
    """
    for start in range(0, n, size):
        rows = torch.arange(start, start + size, device=device).clamp(max=n - 1)
        yield rows, min(size, n - start)


@contextmanager
def evaluating(model: TRM) -> Iterator[None]:
    """Evaluation mode without gradients within the context; restores the mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def run_steps(
    model: TRM, split: Split, steps: int, batch_size: int, padded_to: int | None = None
) -> Iterator[tuple[int, Carry, Output]]:
    """Run `split` batch by batch for `steps` supervision steps, which may exceed `halt_max_steps`.

    In batches of at most `batch_size` rows and about equal size, or of exactly `padded_to` rows, so that a
    compiled model sees one shape. After each step yields its number, from 1, and the carry and output of the
    batch, without padding.
    """
    n = len(split.inputs)
    size = padded_to or math.ceil(n / math.ceil(n / batch_size))
    for rows, count in equal_batches(n, size, split.inputs.device):
        inputs, labels = split.inputs[rows], split.labels[rows]
        carry = model.initial_carry(len(rows), rows.device)
        for step in range(1, steps + 1):
            carry, output = model(carry, inputs, labels)
            yield step, *_first_rows(carry, output, count)
            # A halted row would start again from the initial states at the next step.
            carry = replace(carry, halted=torch.zeros_like(carry.halted))


def _first_rows(carry: Carry, output: Output, n: int) -> tuple[Carry, Output]:
    return carry.rows(slice(n)), Output(output.logits[:n], output.q_halt_logits[:n])
