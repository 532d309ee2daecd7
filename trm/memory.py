"""The memory of a training step, estimated without allocating any of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from trm.config import TrialConfig
from trm.losses import supervision_loss
from trm.model import TRM, Carry, Noise, build_model
from trm.optim import matrices


class StepMemory(NamedTuple):
    """Bytes of a training step in eager mode; a compiled one saves less for the backward pass."""

    weights: int  # with gradients, moments, the average and the chosen weights, all in float32
    saved: int  # by the forward pass of `rows_at_once` rows, for the backward pass
    carry: int  # of the whole batch, twice: a new one is made before the old one is replaced

    @property
    def total(self) -> int:
        return sum(self)


def model_without_data(config: TrialConfig, dtype: torch.dtype) -> TRM:
    """The model in training mode on the meta device, which computes shapes and no numbers."""
    model = build_model(config, 0, "meta")
    model.forward_dtype = dtype
    model.train()
    return model


def loss_without_data(model: TRM, config: TrialConfig) -> tuple[Carry, Tensor]:
    """The new carry and the loss of `rows_at_once` rows."""
    rows = config.train.rows_at_once
    tokens = torch.zeros(rows, config.data.shape.seq_len, dtype=torch.uint8, device="meta")
    drawn = torch.zeros(rows, dtype=torch.int64, device="meta")
    carry = model.initial_carry(rows, "meta")
    noise = Noise(drawn > 0, drawn, carry.z_L.float(), carry.z_L > 0)
    carry, output = model(carry, tokens, tokens, noise)
    return carry, supervision_loss(output, carry, config.effective_loss)[0]


@contextmanager
def saved_for_backward(model: TRM) -> Iterator[dict[int, int]]:
    """Bytes of each storage that is saved for the backward pass in the context, except the model's own."""
    own = {value.untyped_storage()._cdata for value in (*model.parameters(), *model.buffers())}
    held: list[Tensor] = []
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            held.append(tensor)  # or its storage's address could be given to another tensor
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def step_memory(config: TrialConfig, dtype: torch.dtype) -> StepMemory:
    """An estimate for a model that computes in `dtype`: a lower bound, as it leaves out what operators need
    while they run, and what the allocator cannot use. Attention alone is estimated too high: the meta device
    has no kernel for it, so that its weights, (heads, L, L) a row, count as saved (docs/performance.md)."""
    recursions, _ = config.model.backpropagated
    with_gradient = config.model.model_copy(update={"h_cycles": recursions})
    model = model_without_data(config.model_copy(update={"model": with_gradient}), dtype)
    with saved_for_backward(model) as saved:
        carry, _ = loss_without_data(model, config)
    copies = 2 + 2 + (config.optim.ema_decay > 0) + 1
    numbers = sum(parameter.numel() for parameter in model.parameters()) * copies
    if config.optim.kind == "muon":  # which has one moment
        numbers -= sum(matrix.numel() for matrix in matrices(model))
    weights = 4 * numbers
    of_carry = sum(value.untyped_storage().nbytes() for value in vars(carry).values())
    passes = config.train.batch_size // config.train.rows_at_once
    return StepMemory(weights, sum(saved.values()), 2 * of_carry * passes)
