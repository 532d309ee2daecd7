"""mLSTM (xLSTM, arXiv 2405.04517): a matrix memory with exponential input gates and a normaliser.

With E = `expand` x D inner channels, u and z are the halves of W_up x, and c = silu(conv(u)) of a short
causal convolution:

    q, k, v = W_q c, W_k c, W_v u                each block-diagonal, in blocks of `qkv_block_size`
    i~, f~ = W_i [q, k, v] + b_i, W_f [q, k, v] + b_f    one of each for a head
    y = norm(h) + skip * c                       h: the memory's output (`trm.mixers.kernels.mlstm`)
    W_down (y * silu(z))

where `norm` is a LayerNorm over each head's channels with a weight 1 + w and no bias. Read backwards, the
convolution looks ahead. A head's gates see all heads' q, k and v, in the head's own order.

Deviations. W_down starts as all linear layers here, times `out_gain`; the authors start it at a standard
deviation of 2 / (blocks sqrt(D)). The gates' biases, the norm and the skip have no weight decay. E is not
rounded up to a multiple of 64, and is less than 2 D by default, for attention's number of parameters.
"""

from __future__ import annotations

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
from trm.mixers.kernels import mlstm
from trm.mixers.kernels.conv import CausalConv1d
from trm.mixers.scans import Scans


class MLSTMConfig(InnerConfig):
    """`expand` x hidden_size channels in `num_heads` heads, each with a state of (channels / num_heads)^2."""

    added = ()
    kind: Literal["mlstm"] = "mlstm"
    # All that selects is made of q, k and v, which are a reading's own anyway.
    direction: Literal["forward", "alternating", "bidirectional_tied"] = "alternating"  # type: ignore[assignment]
    expand: float = Field(1.3125, gt=0.0)  # as many parameters as attention
    num_heads: int = Field(4, ge=1)
    d_conv: int = Field(4, ge=1)
    qkv_block_size: int = Field(4, ge=1)

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> MLSTM:
        self.check(hidden_size)
        return MLSTM(self, hidden_size, layout, scan_index)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        inner = self.d_inner(hidden_size)
        gates = 2 * self.num_heads * (3 * inner + 1)
        channelwise = inner * (3 * self.qkv_block_size + self.d_conv + 1 + 2)
        return 3 * hidden_size * inner + channelwise + gates

    def flops(self, hidden_size: int, layout: Layout) -> int:
        inner, orders, length = self.d_inner(hidden_size), len(self.orders), layout.seq_len
        # Each order has its own q, k, v and gates of all heads, of which it uses its share.
        selecting = orders * 3 * inner * (self.qkv_block_size + 2 * self.num_heads)
        core = mlstm.flops(length, self.num_heads, inner // self.num_heads)
        readings = len(self.reversals(0))
        return 2 * length * (3 * hidden_size * inner + readings * selecting) + readings * core

    def check(self, hidden_size: int, key: str = KEY) -> None:
        super().check(hidden_size, key)
        for field in ("num_heads", "qkv_block_size"):
            self.check_divides(field, self.d_inner(hidden_size), hidden_size, key)
        self.check_shares(self.num_heads, "heads", "num_heads", key)

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        return fields | {"order": self.order_of_heads(self.num_heads, layout)}


class MLSTM(nn.Module):
    """Names as above; W_up and W_down are `in_proj` and `out_proj`."""

    def __init__(self, config: MLSTMConfig, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__()
        self.num_heads, inner = config.num_heads, config.d_inner(hidden_size)
        self.groups = len(config.orders)
        self.scans = Scans(config, layout, scan_index)
        small = (2 / (5 * hidden_size)) ** 0.5  # standard deviation (Nguyen & Salazar, arXiv 1910.05895)
        self.in_proj = CastedLinear(hidden_size, 2 * inner)
        nn.init.normal_(self.in_proj.weight, std=small)
        self.conv1d = CausalConv1d(inner, config.d_conv)
        blocks, width = inner // config.qkv_block_size, config.qkv_block_size
        self.q, self.k, self.v = (
            nn.Parameter(torch.empty(blocks, width, width).normal_(std=small)) for _ in range(3)
        )
        self.igate, self.fgate = (CastedLinear(3 * inner, self.num_heads) for _ in range(2))
        for gate in (self.igate, self.fgate):
            nn.init.zeros_(gate.weight)
        self.igate_bias = undecayed(torch.empty(self.num_heads).normal_(std=0.1))
        self.fgate_bias = undecayed(torch.linspace(3, 6, self.num_heads))
        self.norm_weight = undecayed(torch.zeros(inner))
        self.skip = undecayed(torch.ones(inner))
        self.out_proj = CastedLinear(inner, hidden_size, gain=config.out_gain)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        u, z = self.in_proj(hidden_states).chunk(2, dim=-1)
        y = self.scans(self._mix, self.scans.for_every_group(u))
        return self.out_proj((y * F.silu(z)).to(z.dtype))

    def _mix(self, u: Tensor, index: int, group: int) -> Tensor:
        """The memory of a group of heads, on tokens in scan order: (B, L, E) -> (B, L, E / groups)."""

        def own(x: Tensor, dim: int = -1) -> Tensor:
            return x.chunk(self.groups, dim)[group]

        c = self.conv1d(u)
        q, k, v = block_diagonal(c, self.q), block_diagonal(c, self.k), block_diagonal(u, self.v)
        gates = at_least_float32(self._gates(q, k, v))
        i, f = (own(each) for each in gates.chunk(2, dim=-1))
        heads = self.num_heads // self.groups
        q, k, v = (own(each).unflatten(-1, (heads, -1)) for each in (q, k, v))
        h = mlstm.mlstm(q, k, v, i, f)
        h = F.layer_norm(h, h.shape[-1:]).flatten(2)
        return h * (1 + own(self.norm_weight)) + own(self.skip) * own(c)

    def _gates(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """i~ and f~ of all heads, (B, L, 2 H), without a copy of q, k and v side by side."""
        weights = torch.cat((self.igate.weight, self.fgate.weight)).to(q.dtype).chunk(3, dim=-1)
        bias = torch.cat((self.igate_bias, self.fgate_bias))
        parts = [F.linear(x, weight) for x, weight in zip((q, k, v), weights, strict=True)]
        return sum(parts) + bias


def block_diagonal(x: Float[Tensor, "B L E"], weight: Float[Tensor, "blocks w w"]) -> Float[Tensor, "B L E"]:
    """Each w channels of x times their own matrix, (out, in)."""
    width = weight.shape[-1]
    return torch.einsum("blnj,nij->blni", x.unflatten(-1, (-1, width)), weight.to(x.dtype)).flatten(2)
