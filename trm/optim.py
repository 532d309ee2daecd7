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

    def __init__(self, params: Iterable[Tensor], lr: Tensor, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(group["lr"] * p.grad.sign())


class Optimizers:
    """Both optimizers of a run of `max_steps` steps, of which the first `warmup_steps` are warm-up.

    Learning rates are tensors beside the weights: a CUDA graph of `step` reads what `set_rates` wrote.
    """

    def __init__(self, model: TRM, config: OptimConfig, max_steps: int, warmup_steps: int) -> None:
        self.config, self.max_steps, self.warmup_steps = config, max_steps, warmup_steps
        device = model.H_init.device
        is_cuda = device.type == "cuda"
        self._rates: dict[str, tuple[Tensor, float]] = {}  # of each optimizer, and its base
        self._optimizers: dict[str, torch.optim.Optimizer] = {}

        def rate(name: str, base: float) -> Tensor:
            # AdamW's kernel for CUDA reads float32. On a CPU float64 gives the bits that a number would.
            tensor = torch.zeros((), dtype=torch.float32 if is_cuda else torch.float64, device=device)
            self._rates[name] = tensor, base
            return tensor

        self._optimizers["adamw"] = torch.optim.AdamW(
            _groups((p for _, p in model.network_parameters()), config.weight_decay),
            lr=rate("adamw", config.lr),
            betas=config.betas,
            eps=config.eps,
            fused=is_cuda,
            capturable=is_cuda,
        )
        if model.puzzle_emb is not None:
            self._optimizers["sign_sgd"] = SignSGD(
                model.puzzle_emb.parameters(),
                rate("sign_sgd", config.puzzle_emb_lr),
                config.puzzle_emb_weight_decay,
            )
        self.set_rates(1)

    def set_rates(self, step: int) -> None:
        """Set the learning rates of optimizer step `step`, from 1; `lr` is the network's."""
        self.lr = self._rate(step, self.config.lr)
        for tensor, base in self._rates.values():
            tensor.fill_(self._rate(step, base))

    def _rate(self, step: int, base: float) -> float:
        return learning_rate(step, base, self.warmup_steps, self.max_steps, self.config.lr_min_ratio)

    def step(self) -> None:
        for optimizer in self._optimizers.values():
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        states = {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}
        return {"lr": self.lr, **states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the moments. Settings stay this run's own: another device may have written them."""
        self.lr = state["lr"]
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state[name]["state"]})
            for group in optimizer.param_groups:
                group["lr"] = self._rates[name][0]  # loading has put a copy there


def _groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with and without weight decay.

    As in the reference all parameters decay, also biases, except those that a mixer marks as `undecayed`,
    such as A_log, whose decay to 0 would set time constants and not shrink weights (docs/mixers.md has all).
    """
    parameters = list(parameters)
    undecayed = [p for p in parameters if getattr(p, "_no_weight_decay", False)]
    decayed = [p for p in parameters if not getattr(p, "_no_weight_decay", False)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
