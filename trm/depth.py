"""What the weights that val chose do on test, beyond one number: the reading at the end of a trial.

Solved: every labelled cell is right. All of test is read to `halt_max_steps` supervision steps, where
training and evaluation end. `eval.depth_rows` rows of it, the same ones for every trial, go on to
`eval.depth_steps`: more thinking at test time than in training (inference-time scaling in arXiv 2506.21734).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trm.config import TrialConfig
from trm.data.base import Split
from trm.evaluate import equal_batches, evaluating, fixed_subset, wilson_interval
from trm.model import TRM

ECE_BINS = 10  # equally wide; few, as a bin's gap has the noise of its rows in it
_NO_END = 2**31


class Reading(NamedTuple):
    """One pass over N rows to T supervision steps, on the CPU."""

    solved: Bool[Tensor, "N T"]  # after each step
    cell_accuracy: Float[Tensor, " N"]  # after step halt_max_steps, over the row's labelled cells
    q_halt_logits: Float[Tensor, " N"]  # after step halt_max_steps
    ratings: Int[Tensor, " N"]


def metric_names(config: TrialConfig) -> list[str]:
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


def readings(model: TRM, config: TrialConfig, test: Split) -> tuple[Reading, Reading]:
    """All of `test`, which is on the model's device, and the rows that go deeper; see `figures`."""
    halt_max_steps, settings = config.model.halt_max_steps, config.eval
    subset = fixed_subset(test, settings.depth_rows)
    deep = read(model, subset, max(settings.depth_steps, halt_max_steps), settings.batch_size)
    whole = deep if subset is test else read(model, test, halt_max_steps, settings.batch_size)
    return whole, deep


def read(model: TRM, split: Split, steps: int, batch_size: int) -> Reading:
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
    return Reading(at_step, share, logits, split.ratings.cpu())


def accuracies(config: TrialConfig, whole: Reading) -> dict[str, float]:
    """What `trm.evaluate.evaluate` gives of the same rows, but the loss."""
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


def figures(config: TrialConfig, whole: Reading, deep: Reading) -> dict[str, float]:
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
