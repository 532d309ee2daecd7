"""The loss and the metrics of one supervision step (the ACT loss head of the reference)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from trm.config import LossConfig
from trm.model import Carry, Output


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


def supervision_loss(
    output: Output, carry: Carry, config: LossConfig
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The loss of one supervision step, summed over the batch, and the sums of its metrics.

    `carry` is the one that the model returned with `output`: it holds the labels, and which rows halt at this
    step. Labels of 0 and below are ignored. The loss of a row is the mean cross-entropy over its labelled
    cells, plus `q_weight` x the binary cross-entropy of q_halt with the target "every labelled cell is right
    after this step", plus, if q_continue is learned, `q_weight` x that of q_continue with its target. The
    trainer divides the sum by the batch size.

    The metrics are detached tensors on the device. Sums over the batch: `loss`, `lm_loss`, `q_halt_loss`,
    `q_continue_loss`. Sums over the `count` rows that halt at this step and have a label: `cell_accuracy`,
    `exact_accuracy`, `q_halt_accuracy`, `halt_steps`.
    """
    labels, logits, q_halt_logits = carry.labels, output.logits, output.q_halt_logits
    labelled = labels > 0
    cells = labelled.sum(-1)
    cell_loss = cross_entropy(logits, torch.where(labelled, labels, 0), config.kind)
    lm_loss = (torch.where(labelled, cell_loss, 0).sum(-1) / cells.clamp(min=1)).sum()

    right = labelled & (logits.detach().argmax(-1) == labels)
    solved = right.sum(-1) == cells
    q_halt_loss = F.binary_cross_entropy_with_logits(
        q_halt_logits, solved.to(q_halt_logits.dtype), reduction="sum"
    )
    q_continue_loss = torch.zeros_like(q_halt_loss)
    if output.q_continue_logits is not None and output.target_q_continue is not None:
        q_continue_loss = F.binary_cross_entropy_with_logits(
            output.q_continue_logits, output.target_q_continue, reduction="sum"
        )
    loss = lm_loss + config.q_weight * (q_halt_loss + q_continue_loss)

    counted = carry.halted & (cells > 0)
    metrics = {
        "loss": loss,
        "lm_loss": lm_loss,
        "q_halt_loss": q_halt_loss,
        "q_continue_loss": q_continue_loss,
        "count": counted.sum(),
        "cell_accuracy": torch.where(counted, right.sum(-1) / cells.clamp(min=1), 0).sum(),
        "exact_accuracy": (counted & solved).sum(),
        "q_halt_accuracy": (counted & ((q_halt_logits >= 0) == solved)).sum(),
        "halt_steps": torch.where(counted, carry.steps, 0).sum(),
    }
    return loss, {name: value.detach() for name, value in metrics.items()}
