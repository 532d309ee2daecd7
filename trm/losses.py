"""The loss and the metrics of one supervision step (the ACT loss head of the reference)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Integer
from torch import Tensor

from trm.config import LossConfig
from trm.model import Carry, Output

LOSSES = ("loss", "lm_loss", "q_halt_loss", "q_continue_loss")  # summed over the batch
# Then the number of rows that halt at the step and have a label, and sums over those rows.
SUMS = (*LOSSES, "count", "cell_accuracy", "exact_accuracy", "q_halt_accuracy", "halt_steps")


def log_stablemax(logits: Float[Tensor, "*cells V"]) -> Float[Tensor, "*cells V"]:
    """log(s(x) / sum s(x)), s(x) = x + 1 if x >= 0 else 1 / (1 - x) (Prieto et al., arXiv 2501.04697)."""
    scores = torch.where(logits < 0, 1 / (1 - logits.clamp(max=0)), logits + 1)
    return torch.log(scores / scores.sum(-1, keepdim=True))


def cross_entropy(
    logits: Float[Tensor, "*cells V"], labels: Integer[Tensor, "*cells"], kind: str
) -> Float[Tensor, "*cells"]:
    """-log p(label) of each cell; stablemax is computed in float64, softmax in float32."""
    if kind == "stablemax":
        log_probs = log_stablemax(logits.double())
    else:
        log_probs = F.log_softmax(logits.float(), dim=-1)
    return -log_probs.gather(-1, labels.long()[..., None]).squeeze(-1)


class Answers(NamedTuple):
    """What is right of each row's answer; labels of 0 and below do not count."""

    right_cells: Float[Tensor, " B"]  # share of the labelled cells
    solved: Bool[Tensor, " B"]  # every labelled cell is right, and there is one
    is_labelled: Bool[Tensor, " B"]  # there is a labelled cell


@torch.no_grad()
def answers(logits: Float[Tensor, "B L V"], labels: Integer[Tensor, "B L"]) -> Answers:
    labelled = labels > 0
    cells = labelled.sum(-1)
    right = (labelled & (logits.argmax(-1) == labels)).sum(-1)
    return Answers(right / cells.clamp(min=1), (right == cells) & (cells > 0), cells > 0)


class RowLosses(NamedTuple):
    """The losses of each row after a supervision step."""

    lm: Float[Tensor, " B"]  # mean cross-entropy over the row's labelled cells
    q_halt: Float[Tensor, " B"]
    q_continue: Float[Tensor, " B"]  # 0 unless q_continue is learned

    def total(self, config: LossConfig) -> Float[Tensor, " B"]:
        return self.lm + config.q_weight * (self.q_halt + self.q_continue)


def row_losses(
    output: Output, labels: Integer[Tensor, "B L"], answered: Answers, config: LossConfig
) -> RowLosses:
    """Labels of 0 and below do not count. The target of q_halt is "every labelled cell is right after this
    step", which holds for a row without a labelled cell; that of q_continue comes with the output."""
    labelled = labels > 0
    cell_loss = cross_entropy(output.logits, torch.where(labelled, labels, 0), config.kind)
    q_halt_logits = output.q_halt_logits
    target = (answered.solved | ~answered.is_labelled).to(q_halt_logits.dtype)
    q_halt = F.binary_cross_entropy_with_logits(q_halt_logits, target, reduction="none")
    q_continue = torch.zeros_like(q_halt)
    if output.q_continue_logits is not None and output.target_q_continue is not None:
        q_continue = F.binary_cross_entropy_with_logits(
            output.q_continue_logits, output.target_q_continue, reduction="none"
        )
    lm = torch.where(labelled, cell_loss, 0).sum(-1) / labelled.sum(-1).clamp(min=1)
    return RowLosses(lm, q_halt, q_continue)


def supervision_loss(
    output: Output, carry: Carry, config: LossConfig
) -> tuple[Float[Tensor, ""], Float64[Tensor, " sums"]]:
    """The loss of one supervision step, summed over the batch, and the sums named by SUMS, detached.

    `carry` is the one that the model returned with `output`: it holds the labels, and which rows halt at this
    step. The loss of a row is `RowLosses.total`. The trainer divides the sum by the batch size.
    """
    answered = answers(output.logits, carry.labels)
    rows = row_losses(output, carry.labels, answered, config)
    loss = rows.total(config).sum()
    with torch.no_grad():
        counted = carry.halted & answered.is_labelled
        agrees = (output.q_halt_logits >= 0) == answered.solved
        of_halted = (answered.right_cells, answered.solved, agrees, carry.steps)
        sums = [
            *(loss, rows.lm.sum(), rows.q_halt.sum(), rows.q_continue.sum(), counted.sum()),
            *(torch.where(counted, figure, 0).sum() for figure in of_halted),
        ]
        return loss, torch.stack([value.double() for value in sums])
