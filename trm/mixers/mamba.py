"""Mamba (Gu & Dao, arXiv 2312.00752): the selective state-space model, with a step size for every channel.

Deviations: none in the function (it is that of section 3.4); the defaults give the parameters of attention,
not the published expand = 2.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.layers import CastedLinear, RotaryEmbedding
from trm.mixers.conv import CausalConv1d
from trm.mixers.selective_scan import selective_scan
from trm.mixers.ssm import SSMConfig, at_least_float32, dt_bias_init, undecayed


class MambaConfig(SSMConfig):
    kind: Literal["mamba"] = "mamba"
    d_state: int = Field(16, ge=1)
    dt_rank: int | None = Field(None, ge=1)  # None: hidden_size / 16, rounded up

    def rank(self, hidden_size: int) -> int:
        return self.dt_rank or math.ceil(hidden_size / 16)

    def build(self, hidden_size: int, seq_len: int, layer_idx: int, rope: RotaryEmbedding | None) -> Mamba:
        self.check(hidden_size)
        return Mamba(self, hidden_size, layer_idx)

    def num_params(self, hidden_size: int, seq_len: int) -> int:
        inner, rank, directions = self.d_inner(hidden_size), self.rank(hidden_size), self.num_directions
        own = directions * (rank + 2 * self.d_state)  # dt, B and C of every direction
        return 3 * hidden_size * inner + inner * (self.d_conv + 3 + rank + self.d_state + own)

    def flops(self, hidden_size: int, seq_len: int) -> int:
        inner, rank = self.d_inner(hidden_size), self.rank(hidden_size)
        reading = inner * (2 * rank + 2 * self.d_state) + inner * self.d_state  # projections, then C h
        return 2 * seq_len * (3 * hidden_size * inner + self.num_directions * reading)

    def effective(self, hidden_size: int, seq_len: int, num_layers: int) -> dict[str, Any]:
        fields = super().effective(hidden_size, seq_len, num_layers)
        return fields | {"dt_rank": self.rank(hidden_size)}


class Mamba(nn.Module):
    """out_proj((scan(x, dt, B, C) + D x) * silu(z)); see `trm.mixers.ssm` for names and directions."""

    def __init__(self, config: MambaConfig, hidden_size: int, layer_idx: int) -> None:
        super().__init__()
        self.backend = config.backend
        self.reversals = config.reversals(layer_idx)
        inner, rank = config.d_inner(hidden_size), config.rank(hidden_size)
        self.sizes = [rank, config.d_state, config.d_state]  # of dt, B and C
        self.in_proj = CastedLinear(hidden_size, 2 * inner)
        self.conv1d = CausalConv1d(inner, config.d_conv)
        self.x_proj = CastedLinear(inner, config.num_directions * sum(self.sizes))
        self.dt_proj = nn.Linear(rank, inner)  # its bias is that of the step size, added in float32
        with torch.no_grad():
            self.dt_proj.weight.uniform_(-(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = undecayed(dt_bias_init(inner))
        states = torch.arange(1, config.d_state + 1, dtype=torch.float32)
        self.A_log = undecayed(states.log().repeat(inner, 1))
        self.D = undecayed(torch.ones(inner))
        self.out_proj = CastedLinear(inner, hidden_size)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        x, z = self.in_proj(hidden_states).chunk(2, dim=-1)
        own = self.x_proj.weight.chunk(len(self.reversals))
        readings = [self._read(x, *of) for of in zip(own, self.reversals, strict=True)]
        y = readings[0] if len(readings) == 1 else torch.stack(readings).mean(0)
        return self.out_proj(y * F.silu(z))

    def _read(
        self, x: Float[Tensor, "B L E"], x_proj: Float[Tensor, "S E"], reverse: bool
    ) -> Float[Tensor, "B L E"]:
        """One reading of the tokens, from the last to the first if `reverse`."""
        x = F.silu(self.conv1d(x.flip(1) if reverse else x))
        dt, B, C = F.linear(x, x_proj.to(x.dtype)).split(self.sizes, dim=-1)
        dt = at_least_float32(F.linear(dt, self.dt_proj.weight.to(x.dtype)))
        dt = F.softplus(dt + self.dt_proj.bias)
        y = self._scan(x, dt, -self.A_log.exp(), B, C) + self.D.to(x.dtype) * x
        return y.flip(1) if reverse else y

    def _scan(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        if self.backend == "torch":
            return selective_scan(x, dt, A, B, C)
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        # The kernel wants one dtype for all, tokens last; in bfloat16 the step sizes would lose their digits.
        u, dt, B, C = (v.to(dt.dtype).transpose(1, 2).contiguous() for v in (x, dt, B, C))
        scanned: Tensor = selective_scan_fn(u, dt, A, B, C)
        return scanned.transpose(1, 2).to(x.dtype)
