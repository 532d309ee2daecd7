"""RWKV-7 (arXiv 2503.14456): a matrix state with a decay for every channel and a delta-like update.

With x_n = x + (x_{t-1} - x) mu_n for each n of r, w, k, v, a, g (the token shift; x is 0 before the first
token):

    r, k, v = W_r x_r, W_k x_k, W_v x_v            w = -softplus(-(w0 + tanh(x_w w1) w2)) - 1/2
    a = sigmoid(a0 + x_a a1 a2)                    g = sigmoid(x_g g1) g2
    kk = k k_k, divided by its norm in each head   k = k (1 + (a - 1) k_a)

a state in each head (`trm.mixers.kernels.rwkv7`, with -kk for its a and kk a for its b) gives y, and the
mixer W_o ((GroupNorm(y) + (sum over the head of r k r_k) v) g), where the groups are the heads.

Read backwards, the token shift looks at the next token. A head reads the projections of the tokens in its
own order.

Deviations. There is no value residual, as a loop has no first layer: this is the form of a stack's first
layer, with its initial values. W_o starts as all linear layers here, times `out_gain`, not at zero, from
which the other parameters would get no gradient at first. For the same reason the first factors w1, a1 and
g1 do not start at zero; the second ones start as small as the authors' (0.1 of an orthogonal matrix), so
that the gate, and with it the output, is small at first. As in the authors' training, only the four large
matrices have weight decay. The inner width may differ from the model's, and ranks are half the
authors' suggestion at 512 channels, both for attention's number of parameters.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import CastedLinear, at_least_float32, undecayed
from trm.mixers.base import KEY
from trm.mixers.inner import InnerConfig
from trm.mixers.kernels import rwkv7
from trm.mixers.scans import Scans

SHIFTED = {
    "r": 0.2,
    "w": 0.9,
    "k": 0.7,
    "v": 0.7,
    "a": 0.9,
    "g": 0.2,
}  # initial mu = 1 - (channel / D)^exponent
NORM_EPS = 64e-5  # of the authors, for heads of 64


class RWKV7Config(InnerConfig):
    """`expand` x hidden_size channels in heads of `head_size`, each of which has a state of head_size^2."""

    added = ()
    kind: Literal["rwkv7"] = "rwkv7"
    # A reading's token shift comes before its projections, so that none has its own.
    direction: Literal["forward", "alternating", "bidirectional_tied"] = "alternating"  # type: ignore[assignment]
    expand: float = Field(0.875, gt=0.0)  # with the ranks below as many parameters as attention
    head_size: int = Field(56, ge=2)
    rank_w: int | None = Field(None, ge=1)  # None: hidden_size / 16
    rank_a: int | None = Field(None, ge=1)  # None: hidden_size / 16
    rank_g: int | None = Field(None, ge=1)  # None: hidden_size / 8

    def num_heads(self, hidden_size: int) -> int:
        return self.d_inner(hidden_size) // self.head_size

    def ranks(self, hidden_size: int) -> dict[str, int]:
        """Of the low-rank maps to w, a and g."""
        given = {"w": (self.rank_w, 16), "a": (self.rank_a, 16), "g": (self.rank_g, 8)}
        return {name: rank or max(1, hidden_size // part) for name, (rank, part) in given.items()}

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> RWKV7:
        self.check(hidden_size)
        return RWKV7(self, hidden_size, layout, scan_index)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        inner, ranks = self.d_inner(hidden_size), sum(self.ranks(hidden_size).values())
        return 4 * hidden_size * inner + (hidden_size + inner) * ranks + 6 * hidden_size + 7 * inner

    def flops(self, hidden_size: int, layout: Layout) -> int:
        inner, ranks = self.d_inner(hidden_size), self.ranks(hidden_size).values()
        orders, readings = len(self.orders), len(self.reversals(0))
        inwards = 3 * hidden_size * inner + sum(ranks) * (orders * hidden_size + inner)
        projections = 2 * layout.seq_len * (readings * inwards + inner * hidden_size)
        return projections + readings * sum(self._core_flops(hidden_size, layout))

    def uncounted_flops(self, hidden_size: int, layout: Layout) -> int:
        return len(self.reversals(0)) * self._core_flops(hidden_size, layout)[1]

    def _core_flops(self, hidden_size: int, layout: Layout) -> tuple[int, int]:
        return rwkv7.flops(layout.seq_len, self.num_heads(hidden_size), self.head_size)

    def check(self, hidden_size: int, key: str = KEY) -> None:
        super().check(hidden_size, key)
        inner = self.d_inner(hidden_size)
        self.check_divides("head_size", inner, hidden_size, key)
        self.check_shares(inner // self.head_size, "heads", "head_size", key)
        for rank in ("rank_w", "rank_a", "rank_g"):
            self.check_rank(rank, min(hidden_size, inner), key)

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        ranks = {f"rank_{name}": rank for name, rank in self.ranks(hidden_size).items()}
        return fields | ranks | {"order": self.order_of_heads(self.num_heads(hidden_size), layout)}


class RWKV7(nn.Module):
    """Parameters have the authors' names; `output` is W_o."""

    w1: Tensor
    w2: Tensor
    a1: Tensor
    a2: Tensor
    g1: Tensor
    g2: Tensor

    def __init__(self, config: RWKV7Config, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__()
        self.head_size, inner = config.head_size, config.d_inner(hidden_size)
        self.groups = len(config.orders)
        self.scans = Scans(config, layout, scan_index)
        channel = torch.arange(hidden_size) / hidden_size
        for name, exponent in SHIFTED.items():
            self.register_parameter(f"x_{name}", undecayed(1 - channel**exponent))
        across = torch.linspace(-0.5, 0.5, inner)  # from the first channel to the last
        zigzag = torch.linspace(-1, 1, config.head_size).repeat(inner // config.head_size)
        zigzag = zigzag * zigzag.abs()
        self.w0 = undecayed(6 * (across + 0.5) - 5.5 + 2.5 * zigzag)
        self.a0 = undecayed(-0.19 + 0.3 * zigzag + 0.4 * across)
        for name, rank in config.ranks(hidden_size).items():
            self.register_parameter(
                f"{name}1", undecayed(CastedLinear(hidden_size, rank).weight.detach().t().contiguous())
            )
            self.register_parameter(f"{name}2", undecayed(_orthogonal(rank, inner)))
        self.k_k = undecayed(0.71 - 0.1 * across)
        self.k_a = undecayed(torch.full((inner,), 1.02))
        self.r_k = undecayed(torch.full((inner,), -0.04))
        self.receptance, self.key, self.value = (CastedLinear(hidden_size, inner) for _ in range(3))
        for linear, bound in ((self.receptance, 0.5), (self.key, 0.05), (self.value, 0.5)):
            nn.init.uniform_(linear.weight, -bound * hidden_size**-0.5, bound * hidden_size**-0.5)
        self.ln_weight = undecayed(torch.ones(inner))
        self.ln_bias = undecayed(torch.zeros(inner))
        self.output = CastedLinear(inner, hidden_size, gain=config.out_gain)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return self.output(self.scans(self._mix, self.scans.for_every_group(hidden_states)))

    def _mix(self, x: Tensor, index: int, group: int) -> Tensor:
        """All but W_o of a group of heads, on tokens in scan order: (B, L, D) -> (B, L, E / groups)."""

        def own(parameter: Tensor, dim: int = -1) -> Tensor:
            return parameter.chunk(self.groups, dim)[group].to(x.dtype)

        change = F.pad(x, (0, 0, 1, -1)) - x
        of = {n: torch.addcmul(x, change, getattr(self, f"x_{n}").to(x.dtype)) for n in SHIFTED}
        r, k, v = (
            F.linear(of[n], own(each.weight, 0))
            for n, each in (("r", self.receptance), ("k", self.key), ("v", self.value))
        )
        w = torch.tanh(of["w"] @ self.w1.to(x.dtype)) @ own(self.w2)
        w = -F.softplus(-(at_least_float32(w) + self.w0.chunk(self.groups)[group])) - 0.5
        a = torch.sigmoid(of["a"] @ self.a1.to(x.dtype) @ own(self.a2) + own(self.a0))
        g = torch.sigmoid(of["g"] @ self.g1.to(x.dtype)) @ own(self.g2)
        kk = F.normalize(self._by_head(k * own(self.k_k)), dim=-1, eps=1e-12)
        k = k * (1 + (a - 1) * own(self.k_a))
        r, w, k, v, a, r_k = (self._by_head(each) for each in (r, w, k, v, a, own(self.r_k)))
        y = rwkv7.rwkv7(r, w, k, v, -kk, kk * a)
        y = F.layer_norm(y, y.shape[-1:], eps=NORM_EPS).flatten(2) * own(self.ln_weight) + own(self.ln_bias)
        return (y + ((r * k * r_k).sum(-1, keepdim=True) * v).flatten(2)) * g

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size))


def _orthogonal(rank: int, channels: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rank, channels), gain=0.1 * math.sqrt(max(1.0, rank / channels)))
