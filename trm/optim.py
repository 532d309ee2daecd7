"""AdamW for the network, SignSGD for the puzzle embedding, and the learning-rate schedule of both.

AdamW is the paper's optimizer; the reference code uses AdamATan2 with the same betas and weight decay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trm.config import OptimConfig
from trm.model import TRM


def learning_rate(step: int, base: float, warmup_steps: int, max_steps: int, min_ratio: float) -> float:
    """The rate of optimizer step `step`, from 1: linear warm-up to `base`, then a cosine to base x min_ratio.

    Step 1 of a warm-up of 2000 uses base / 2000, as in the reference; min_ratio 1 gives a constant rate.
    """
    if step < warmup_steps:
        return base * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    return base * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


class SignSGD(torch.optim.Optimizer):
    """p <- p (1 - lr weight_decay) - lr sign(g), with g the gradient over the batch (arXiv 1802.04434)."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(p.grad.sign(), alpha=-group["lr"])


class Optimizers:
    """Both optimizers of a run of `max_steps` steps, of which the first `warmup_steps` are warm-up."""

    def __init__(self, model: TRM, config: OptimConfig, max_steps: int, warmup_steps: int) -> None:
        self.config, self.max_steps, self.warmup_steps = config, max_steps, warmup_steps
        self.lr = self._rate(1, config.lr)  # of the network, in the last step taken
        self._adamw = torch.optim.AdamW(
            _groups((p for _, p in model.network_parameters()), config.weight_decay),
            lr=self.lr,
            betas=config.betas,
            eps=config.eps,
            fused=model.H_init.is_cuda,
        )
        self._optimizers: dict[str, tuple[torch.optim.Optimizer, float]] = {"adamw": (self._adamw, config.lr)}
        if model.puzzle_emb is not None:
            sign_sgd = SignSGD(
                model.puzzle_emb.parameters(), config.puzzle_emb_lr, config.puzzle_emb_weight_decay
            )
            self._optimizers["sign_sgd"] = (sign_sgd, config.puzzle_emb_lr)

    def _rate(self, step: int, base: float) -> float:
        return learning_rate(step, base, self.warmup_steps, self.max_steps, self.config.lr_min_ratio)

    def step(self, step_index: int) -> None:
        """Set the learning rates of optimizer step `step_index`, from 1, and take the step."""
        self.lr = self._rate(step_index, self.config.lr)
        for optimizer, base in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self._rate(step_index, base)
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer, _ in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        states = {name: optimizer.state_dict() for name, (optimizer, _) in self._optimizers.items()}
        return {"lr": self.lr, **states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lr = state["lr"]
        for name, (optimizer, _) in self._optimizers.items():
            optimizer.load_state_dict(state[name])


def _groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with and without weight decay.

    As in the reference all parameters decay, also biases, except those marked `_no_weight_decay`: A_log,
    dt_bias and D of an SSM, whose decay to 0 would set its time constants and not shrink its weights, and the
    scales of its gated norm and of the parts of `parallel`. All other norms have no weights.
    """
    parameters = list(parameters)
    undecayed = [p for p in parameters if getattr(p, "_no_weight_decay", False)]
    decayed = [p for p in parameters if not getattr(p, "_no_weight_decay", False)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
