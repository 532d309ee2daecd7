"""The state-space recurrences as plain loops over the tokens: slow, and too simple to be wrong."""

from __future__ import annotations

import torch
from torch import Tensor


def scan_loop(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Mamba: x, dt (B, L, E), A (E, N), B, C (B, L, N), D (E) -> (B, L, E)."""
    state = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * A)
        state = decay * state + (dt[:, t] * x[:, t])[:, :, None] * B[:, t, None, :]
        outputs.append((state * C[:, t, None, :]).sum(-1) + D * x[:, t])
    return torch.stack(outputs, 1)


def ssd_loop(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Mamba-2: x (B, L, H, P), dt (B, L, H), A (H), B, C (B, L, G, N) -> (B, L, H, P)."""
    heads_per_group = x.shape[2] // B.shape[2]
    B, C = (v.repeat_interleave(heads_per_group, dim=2) for v in (B, C))
    state = x.new_zeros(*x.shape[:1], *x.shape[2:], B.shape[-1])
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        state = decay * state + (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        outputs.append((state * C[:, t, :, None, :]).sum(-1))
    return torch.stack(outputs, 1)


def gradients(function, inputs: list[Tensor], dy: Tensor, **options) -> list[Tensor]:
    """y of function(*inputs), then the gradient of sum(y dy) by every input."""
    inputs = [v.detach().clone().requires_grad_() for v in inputs]
    y = function(*inputs, **options)
    return [y.detach(), *torch.autograd.grad(y, inputs, dy.to(y.dtype))]


def relative_error(computed: Tensor, expected: Tensor) -> float:
    return ((computed.double() - expected.double()).norm() / expected.double().norm()).item()
