"""AdamW or Muon for the network, SignSGD for the puzzle embedding, and the learning-rate schedule of all.

AdamW is the paper's optimizer; the reference code uses AdamATan2 with the same betas and weight decay. Muon
(`torch.optim.Muon`, with Nesterov momentum) trains the matrices of the blocks' linear maps, each as one also
where it holds several (queries, keys and values); embeddings, heads and all else stay with AdamW, as its
author has it. Its update is scaled to the RMS of AdamW's, 0.2 sqrt(max(rows, columns)), so that one rate and
one weight decay serve both (arXiv 2502.16982, section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trm.config import OptimConfig
from trm.layers import CastedLinear
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
    """All optimizers of a run of `max_steps` steps, of which the first `warmup_steps` are warm-up.

    Learning rates are tensors beside the weights: a CUDA graph of `step` reads what `set_rates` wrote. Muon's
    is a number, as `torch.optim.Muon` would wait for the device to read a tensor: such a graph would keep it.
    """

    def __init__(self, model: TRM, config: OptimConfig, max_steps: int, warmup_steps: int) -> None:
        self.config, self.max_steps, self.warmup_steps = config, max_steps, warmup_steps
        device = model.H_init.device
        is_cuda = device.type == "cuda"
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        self._network = [parameter for _, parameter in model.network_parameters()]

        def rate() -> Tensor:
            # AdamW's kernel for CUDA reads float32. On a CPU float64 gives the bits that a number would.
            return torch.zeros((), dtype=torch.float32 if is_cuda else torch.float64, device=device)

        for_muon = matrices(model) if config.kind == "muon" else []
        held = {id(matrix) for matrix in for_muon}
        self._optimizers["adamw"] = torch.optim.AdamW(
            _groups((p for p in self._network if id(p) not in held), config.weight_decay),
            lr=rate(),
            betas=config.betas,
            eps=config.eps,
            fused=is_cuda,
            capturable=is_cuda,
        )
        if for_muon:
            self._optimizers["muon"] = torch.optim.Muon(
                _groups(for_muon, config.weight_decay),
                momentum=config.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        if model.puzzle_emb is not None:
            self._optimizers["sign_sgd"] = SignSGD(
                model.puzzle_emb.parameters(), rate(), config.puzzle_emb_weight_decay
            )
        self.set_rates(1)

    def set_rates(self, step: int) -> None:
        """Set the learning rates of optimizer step `step`, from 1; `lr` is the network's."""
        self.lr = self._rate(step, self.config.lr)
        of_embedding = self._rate(step, self.config.puzzle_emb_lr)
        for name, optimizer in self._optimizers.items():
            rate = of_embedding if name == "sign_sgd" else self.lr
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def _rate(self, step: int, base: float) -> float:
        return learning_rate(step, base, self.warmup_steps, self.max_steps, self.config.lr_min_ratio)

    def step(self) -> None:
        if self.config.clip_norm is not None:  # Pascanu et al., arXiv 1211.5063
            nn.utils.clip_grad_norm_(self._network, self.config.clip_norm)
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


def matrices(model: TRM) -> list[nn.Parameter]:
    """The weights of the blocks' linear maps, which Muon trains. What a mixer does not hold as such is not
    among them: mamba's map to step sizes, the low-rank maps of rwkv7, the block-diagonal ones of mlstm."""
    linear = (
        module for block in model.blocks for module in block.modules() if isinstance(module, CastedLinear)
    )
    return [module.weight for module in linear]


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
