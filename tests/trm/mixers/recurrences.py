"""The recurrences of RWKV-7, mLSTM and Mamba-3 as loops over the tokens, and inputs for them.

Shapes are those of `trm.mixers.kernels`. Inputs are float64, under the names of the functions' arguments.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Draw:
    """Random float64 tensors from a seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def either(self, one: float, other: float, *shape: int) -> Tensor:
        return torch.where(self.uniform(*shape) < 0.5, one, other).double()


def rwkv7_loop(r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor) -> Tensor:
    state = r.new_zeros(*r.shape[:1], *r.shape[2:], r.shape[-1])  # (B, H, values, keys)
    outputs = []
    for t in range(r.shape[1]):
        removed = (state @ a[:, t, :, :, None]) * b[:, t, :, None]
        written = v[:, t, :, :, None] * k[:, t, :, None]
        state = state * torch.exp(-torch.exp(w[:, t]))[:, :, None] + removed + written
        outputs.append((state @ r[:, t, :, :, None])[..., 0])
    return torch.stack(outputs, dim=1)


def mlstm_loop(q: Tensor, k: Tensor, v: Tensor, input_gate: Tensor, forget_gate: Tensor) -> Tensor:
    """The stabilised recurrence, with a stabiliser that starts from nothing (minus infinity)."""
    k = k * k.shape[-1] ** -0.5
    forget_gate = F.logsigmoid(forget_gate)
    memory = q.new_zeros(*q.shape[:1], *q.shape[2:], v.shape[-1])
    normaliser = q.new_zeros(*q.shape[:1], *q.shape[2:])
    m = torch.full_like(input_gate[:, 0], -math.inf)
    outputs = []
    for t in range(q.shape[1]):
        larger = torch.maximum(forget_gate[:, t] + m, input_gate[:, t])
        forget = torch.exp(forget_gate[:, t] + m - larger)[..., None]
        write = torch.exp(input_gate[:, t] - larger)[..., None]
        memory = forget[..., None] * memory + (write * k[:, t])[..., None] * v[:, t, :, None]
        normaliser = forget * normaliser + write * k[:, t]
        m = larger
        least = torch.maximum((normaliser * q[:, t]).sum(-1).abs(), torch.exp(-m)) + 1e-6
        outputs.append((q[:, t, :, None] @ memory)[:, :, 0] / least[..., None])
    return torch.stack(outputs, dim=1)


def mamba3_loop(
    C: Tensor,
    B: Tensor,
    x: Tensor,
    a_dt: Tensor,
    dt: Tensor,
    trap: Tensor,
    C_bias: Tensor,
    B_bias: Tensor,
    angles: Tensor,
    D: Tensor,
) -> Tensor:
    theta = torch.cumsum(math.pi * torch.tanh(angles) * dt[..., None], dim=1)
    q, k = (_turned(v, bias, theta) for v, bias in ((C, C_bias), (B, B_bias)))
    lam = torch.sigmoid(trap)
    state = x.new_zeros(*x.shape[:1], *x.shape[2:], q.shape[-1])  # (B, H, P, N)
    before = torch.zeros_like(state)  # the outer product of the token before
    outputs = []
    for t in range(x.shape[1]):
        new = x[:, t, :, :, None] * k[:, t, :, None]
        decay, share, step = (v[:, t, :, None, None] for v in (a_dt.exp(), lam, dt))
        state = decay * (state + (1 - share) * step * before) + share * step * new
        before = new
        outputs.append((state @ q[:, t, :, :, None])[..., 0] + D[:, None] * x[:, t])
    return torch.stack(outputs, dim=1)


def _turned(v: Tensor, bias: Tensor, theta: Tensor) -> Tensor:
    v = v.repeat_interleave(len(bias) // v.shape[2], dim=2) + bias
    turned = v.clone()
    for pair in range(theta.shape[-1]):
        cos, sin = theta[..., pair].cos(), theta[..., pair].sin()
        first, second = v[..., 2 * pair], v[..., 2 * pair + 1]
        turned[..., 2 * pair] = cos * first - sin * second
        turned[..., 2 * pair + 1] = sin * first + cos * second
    return turned


def rwkv7_inputs(length: int, heads: int = 2, channels: int = 4, seed: int = 0, gates: str = "mixed"):
    """As the block makes them: a = -kk and b = kk iclr with kk of unit norm; w at most -1/2, its bound."""
    draw, shape = Draw(seed), (2, length, heads, channels)
    kk = F.normalize(draw.normal(*shape), dim=-1)
    w = torch.full(shape, -0.5, dtype=torch.float64) if gates == "bound" else -0.5 - 6 * draw.uniform(*shape)
    r, k, v = (draw.normal(*shape) for _ in range(3))
    return {"r": r, "w": w, "k": k, "v": v, "a": -kk, "b": kk * draw.uniform(*shape)}


def mlstm_inputs(length: int, heads: int = 2, channels: int = 4, seed: int = 0, gates: str = "mixed"):
    draw, shape = Draw(seed), (2, length, heads)
    q, k, v = (draw.normal(*shape, channels) for _ in range(3))
    inputs, forgets = {
        "mixed": (draw.normal(*shape), draw.normal(*shape) + 3),
        "resets": (draw.normal(*shape), draw.either(-100.0, 4.0, *shape)),
        "closed": (draw.normal(*shape) - 200, draw.normal(*shape) + 4),
        "open": (20 * draw.normal(*shape) + 60, 3 * draw.normal(*shape)),
    }[gates]
    return {"q": q, "k": k, "v": v, "input_gate": inputs, "forget_gate": forgets}


def mamba3_inputs(
    length: int,
    heads: int = 2,
    channels: int = 3,
    seed: int = 0,
    gates: str = "mixed",
    groups: int = 1,
    d_state: int = 8,
    pairs: int = 2,
):
    draw, shape = Draw(seed), (2, length, heads)
    dt = {
        "mixed": lambda: draw.uniform(*shape),
        "fast": lambda: 20 * draw.uniform(*shape),
        "either": lambda: draw.either(1e-3, 20.0, *shape),
    }[gates]()
    C, B = (draw.normal(2, length, groups, d_state) for _ in range(2))
    return {
        "C": C,
        "B": B,
        "x": draw.normal(*shape, channels),
        "a_dt": -4 * draw.uniform(*shape) * dt,
        "dt": dt,
        "trap": 3 * draw.normal(*shape),
        "C_bias": draw.normal(heads, d_state),
        "B_bias": draw.normal(heads, d_state),
        "angles": draw.normal(*shape, pairs),
        "D": draw.normal(heads),
    }
