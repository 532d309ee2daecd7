"""The memory of a training step, estimated without allocating any of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trm.config import TrialConfig
from trm.losses import supervision_loss
from trm.model import Noise, build_model


class StepMemory(NamedTuple):
    """Bytes of a training step in eager mode; a compiled one saves less for the backward pass."""

    weights: int  # with gradients, AdamW's moments, the average and the chosen weights, all in float32
    saved: int  # by the forward pass of `rows_at_once` rows, for the backward pass
    carry: int  # of the whole batch, twice: a new one is made before the old one is replaced

    @property
    def total(self) -> int:
        return sum(self)


def step_memory(config: TrialConfig, dtype: torch.dtype) -> StepMemory:
    """An estimate for a model that computes in `dtype`: a lower bound, as it leaves out what operators need
    while they run, and what the allocator cannot use."""
    one_recursion = config.model.model_copy(update={"h_cycles": 1})  # only the last has a gradient
    model = build_model(config.model_copy(update={"model": one_recursion}), 0, "meta")
    model.forward_dtype = dtype
    model.train()
    rows = config.train.rows_at_once
    own = {value.untyped_storage()._cdata for value in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            held.append(tensor)  # or its storage's address could be given to another tensor
            saved[storage._cdata] = storage.nbytes()
        return tensor

    held: list[Tensor] = []
    tokens = torch.zeros(rows, config.data.shape.seq_len, dtype=torch.uint8, device="meta")
    drawn = torch.zeros(rows, dtype=torch.int64, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        carry, output = model(model.initial_carry(rows, "meta"), tokens, tokens, Noise(drawn > 0, drawn))
        supervision_loss(output, carry, config.effective_loss)
    copies = 2 + 2 + (config.optim.ema_decay > 0) + 1
    weights = sum(parameter.numel() * 4 for parameter in model.parameters()) * copies
    of_carry = sum(value.untyped_storage().nbytes() for value in vars(carry).values())
    return StepMemory(weights, sum(saved.values()), 2 * of_carry * config.train.batch_size // rows)
