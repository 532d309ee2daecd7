"""The weights that are evaluated: an exponential moving average (EMA), and the best on val so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from trm.model import TRM


class EMA:
    """shadow <- decay x shadow + (1 - decay) x weights after every step, from the initial weights on.

    The puzzle embedding is not averaged: evaluation uses its current value. H_init and L_init never change.
    With decay 0 there is no average, and `swapped` leaves the raw weights in place.
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
            torch._foreach_lerp_(list(self.shadow.values()), weights, 1 - self.decay)

    def swapped(self, model: TRM) -> AbstractContextManager[None]:
        """A context in which the model has the averaged weights."""
        return swapped_weights(model, self.shadow)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError if `state` is of another network, or of a run with another use of EMA."""
        if state.keys() != self.shadow.keys():
            unmatched = sorted(state.keys() ^ self.shadow.keys())
            raise ValueError(
                f"these EMA weights are of another network: only one has {unmatched[:4]}: load them "
                f"with the config that they were saved with"
            )
        for name, weight in state.items():
            self.shadow[name].copy_(weight)


class ChosenWeights:
    """The weights of the best report so far, as evaluated: averaged, and the puzzle embedding raw.

    The best report has the highest exact accuracy; ties go to the higher cell accuracy, then to the later
    report. All reports must be evaluated on the same rows, or one with easier rows would win.
    """

    def __init__(self) -> None:
        self.step = 0  # of the best report; 0 before the first one
        self.score = (-1.0, -1.0)
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def offer(self, model: TRM, step: int, metrics: Mapping[str, float]) -> None:
        """Keep a copy of the model's current weights if `metrics` are no worse than the best so far."""
        score = (metrics["exact_accuracy"], metrics["cell_accuracy"])
        if score < self.score:
            return
        self.step, self.score = step, score
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def swapped(self, model: TRM) -> AbstractContextManager[None]:
        """A context in which the model has the chosen weights."""
        return swapped_weights(model, self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "score": self.score, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.score, self.weights = state["step"], tuple(state["score"]), state["weights"]


@contextmanager
def swapped_weights(model: TRM, weights: dict[str, Tensor]) -> Iterator[None]:
    """A context in which the model and `weights` have exchanged their values, in place, tensor by tensor."""
    _exchange(model, weights)
    try:
        yield
    finally:
        _exchange(model, weights)


@torch.no_grad()
def _exchange(model: TRM, weights: dict[str, Tensor]) -> None:
    """Swap the model's parameters with those of the same name in `weights`; others are unchanged."""
    for name, parameter in model.named_parameters():
        if name in weights:
            weight = parameter.detach().clone()
            parameter.copy_(weights[name])
            weights[name].copy_(weight)
