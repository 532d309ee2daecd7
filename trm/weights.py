"""Which weights are evaluated: an exponential moving average (EMA), and those that val chose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

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
        return swapped_weights(model, self.shadow)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError where `state` is of another network, or of a run with no average."""
        if state.keys() != self.shadow.keys():
            odd = sorted(state.keys() ^ self.shadow.keys())
            raise ValueError(f"these EMA weights are of another network: {odd[:4]} stand on one side only")
        for name, weight in state.items():
            self.shadow[name].copy_(weight)


class ChosenWeights:
    """The weights of the best report so far, as they were evaluated: averaged, the puzzle embedding raw.

    The best has the highest exact accuracy; of equals the highest cell accuracy, and then the latest. What is
    offered must have been read on the same rows every time, or a lucky small subset would be preferred.
    """

    def __init__(self) -> None:
        self.step = 0  # of the report; 0 before the first one
        self.score = (-1.0, -1.0)
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def offer(self, model: TRM, step: int, figures: Mapping[str, float]) -> None:
        """Keep the weights that the model has now, unless those that are kept did better."""
        score = (figures["exact_accuracy"], figures["cell_accuracy"])
        if score < self.score:
            return
        self.step, self.score = step, score
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def placed(self, model: TRM) -> AbstractContextManager[None]:
        """Within the context the model has the chosen weights."""
        return swapped_weights(model, self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "score": self.score, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.score, self.weights = state["step"], tuple(state["score"]), state["weights"]


@contextmanager
def swapped_weights(model: TRM, weights: dict[str, Tensor]) -> Iterator[None]:
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
