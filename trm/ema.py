"""An exponential moving average of the network's weights, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from trm.model import TRM


class EMA:
    """shadow <- decay x shadow + (1 - decay) x weights after every step; it starts at the initial weights.

    The puzzle embedding is not averaged, and H_init and L_init never change: evaluation has them as they are.
    With decay 0 there is no average: `swapped` leaves the raw weights in place.
    """

    def __init__(self, model: TRM, decay: float) -> None:
        self.decay = decay
        self.shadow: dict[str, Tensor] = {}
        if decay:
            self.shadow = {name: p.detach().clone() for name, p in model.network_parameters()}

    @torch.no_grad()
    def update(self, model: TRM) -> None:
        if self.shadow:
            weights = [p.detach() for _, p in model.network_parameters()]
            shadow = list(self.shadow.values())
            torch._foreach_mul_(shadow, self.decay)
            torch._foreach_add_(shadow, torch._foreach_mul(weights, 1 - self.decay))

    def swapped(self, model: TRM) -> AbstractContextManager[None]:
        """Within the context the model has the averaged weights."""
        return exchanged(model, self.shadow)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError where `state` is of another network, or of a run with no average."""
        if state.keys() != self.shadow.keys():
            odd = sorted(state.keys() ^ self.shadow.keys())
            raise ValueError(f"these EMA weights are of another network: {odd[:4]} stand on one side only")
        for name, weight in state.items():
            self.shadow[name].copy_(weight)


@contextmanager
def exchanged(model: TRM, weights: dict[str, Tensor]) -> Iterator[None]:
    """Within the context the model has these weights, and `weights` its own: in place, a tensor at a time."""
    _exchange(model, weights)
    try:
        yield
    finally:
        _exchange(model, weights)


@torch.no_grad()
def _exchange(model: TRM, weights: dict[str, Tensor]) -> None:
    """Swap the model's parameters with those in `weights`, by name; a parameter that is not there stays."""
    for name, parameter in model.named_parameters():
        if name in weights:
            weight = parameter.detach().clone()
            parameter.copy_(weights[name])
            weights[name].copy_(weight)
