"""The weights that val chose: those of the report at which the model did best on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from trm.ema import exchanged
from trm.model import TRM


class Chosen:
    """The weights of the best report so far, as they were evaluated: averaged, the puzzle embedding raw.

    The best has the highest exact accuracy; of equals the highest cell accuracy, and then the latest. What is
    offered must have been read on the same rows every time, or a lucky small subset would be preferred.
    """

    def __init__(self) -> None:
        self.step = 0  # of the report; 0 before the first one
        self.score = (-1.0, -1.0)
        self.weights: dict[str, torch.Tensor] = {}

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
        return exchanged(model, self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "score": self.score, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.score, self.weights = state["step"], tuple(state["score"]), state["weights"]
