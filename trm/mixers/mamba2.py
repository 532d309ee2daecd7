"""Mamba-2 (Dao & Gu, arXiv 2405.21060): state-space duality in the parallel block of its figure 6.

Deviations: `out_proj` starts at OUT_PROJ_GAIN of the usual scale; the defaults give the parameters of
attention, not the published expand = 2.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.layers import CastedLinear, RotaryEmbedding, rms_norm
from trm.mixers import ssd
from trm.mixers.conv import CausalConv1d
from trm.mixers.ssm import SSMConfig, at_least_float32, dt_bias_init, undecayed

# The gated norm hands on states of unit scale, two to three times attention's. Over the 42 layers of a
# supervision step a new network then amplifies a rounding error 60- to 200-fold (hidden_size 128, three
# seeds); at 0.3 not at all, while attention amplifies it 5-fold.
OUT_PROJ_GAIN = 0.3


class Mamba2Config(SSMConfig):
    """`expand` x hidden_size channels in heads of `headdim`; B and C are shared by the heads of a group."""

    kind: Literal["mamba2"] = "mamba2"
    d_state: int = Field(64, ge=1)
    headdim: int = Field(64, ge=1)
    ngroups: int = Field(1, ge=1)
    chunk_size: int = Field(64, ge=1)  # tokens in a chunk, where there are too many for the quadratic form

    def num_heads(self, hidden_size: int) -> int:
        return self.d_inner(hidden_size) // self.headdim

    def build(self, hidden_size: int, seq_len: int, layer_idx: int, rope: RotaryEmbedding | None) -> Mamba2:
        self.check(hidden_size)
        return Mamba2(self, hidden_size, layer_idx)

    def num_params(self, hidden_size: int, seq_len: int) -> int:
        inner, heads = self.d_inner(hidden_size), self.num_heads(hidden_size)
        shared = 2 * self.num_directions * self.ngroups * self.d_state  # B and C, of every direction
        projections = hidden_size * (3 * inner + shared + self.num_directions * heads)
        return projections + (inner + shared) * (self.d_conv + 1) + 3 * heads + inner

    def flops(self, hidden_size: int, seq_len: int) -> int:
        inner, heads = self.d_inner(hidden_size), self.num_heads(hidden_size)
        own = 2 * self.ngroups * self.d_state + heads
        projections = 2 * seq_len * hidden_size * (3 * inner + self.num_directions * own)
        scan = ssd.flops(seq_len, heads, self.headdim, self.ngroups, self.d_state, self.chunk_size)
        return projections + self.num_directions * scan

    def check(self, hidden_size: int) -> None:
        super().check(hidden_size)
        inner = self.d_inner(hidden_size)
        if inner % self.headdim:
            raise ValueError(
                f"model.mixer.headdim is {self.headdim}, which does not divide the {inner} channels "
                f"(expand {self.expand:g} x model.hidden_size {hidden_size}): give one of {_divisors(inner)}"
            )
        heads = inner // self.headdim
        if heads % self.ngroups:
            raise ValueError(
                f"model.mixer.ngroups is {self.ngroups}, which does not divide the {heads} heads ({inner} "
                f"channels in heads of {self.headdim}): give one of {_divisors(heads)}"
            )

    def effective(self, hidden_size: int, seq_len: int, num_layers: int) -> dict[str, Any]:
        fields = super().effective(hidden_size, seq_len, num_layers)
        del fields["chunk_size"]  # another order of the same sum
        return fields


class Mamba2(nn.Module):
    """out_proj(RMSNorm(ssd(x, dt, B, C) * silu(z))); see `trm.mixers.ssm` for names and directions."""

    def __init__(self, config: Mamba2Config, hidden_size: int, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.reversals = config.reversals(layer_idx)
        self.inner, self.heads = config.d_inner(hidden_size), config.num_heads(hidden_size)
        self.shared = 2 * config.ngroups * config.d_state  # channels of B and C together
        directions = config.num_directions
        # The order of the channels is z, x, then B, C, dt of each direction.
        self.in_proj = CastedLinear(hidden_size, 2 * self.inner + directions * (self.shared + self.heads))
        self.conv1d = CausalConv1d(self.inner + directions * self.shared, config.d_conv)
        self.dt_bias = undecayed(dt_bias_init(self.heads))
        self.A_log = undecayed(torch.empty(self.heads).uniform_(1, 16).log())
        self.D = undecayed(torch.ones(self.heads))
        self.norm = GatedRMSNorm(self.inner)
        self.out_proj = CastedLinear(self.inner, hidden_size)
        with torch.no_grad():
            self.out_proj.weight.mul_(OUT_PROJ_GAIN)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        directions = len(self.reversals)
        sizes = [self.inner, self.inner, *[self.shared, self.heads] * directions]
        z, x, *own = self.in_proj(hidden_states).split(sizes, dim=-1)
        readings = [self._read(x, own[2 * i], own[2 * i + 1], i) for i in range(directions)]
        y = readings[0] if directions == 1 else torch.stack(readings).mean(0)
        return self.out_proj(self.norm(y, z))

    def _read(
        self,
        x: Float[Tensor, "B L E"],
        BC: Float[Tensor, "B L S"],
        dt: Float[Tensor, "B L H"],
        index: int,
    ) -> Float[Tensor, "B L E"]:
        """One reading of the tokens, with its own B, C and dt."""
        if self.reversals[index]:
            x, BC, dt = x.flip(1), BC.flip(1), dt.flip(1)
        x = F.silu(self.conv1d(x)).unflatten(-1, (self.heads, -1))
        BC = F.silu(self.conv1d(BC, start=self.inner + index * self.shared))
        B, C = BC.unflatten(-1, (2, self.config.ngroups, -1)).unbind(2)
        dt = F.softplus(at_least_float32(dt) + self.dt_bias)
        y = self._scan(x, dt, -self.A_log.exp(), B, C) + self.D[:, None].to(x.dtype) * x
        y = y.flatten(2)
        return y.flip(1) if self.reversals[index] else y

    def _scan(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        if self.config.backend == "torch":
            return ssd.ssd(x, dt, A, B, C, self.config.chunk_size)
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        scanned: Tensor = mamba_chunk_scan_combined(x, dt, A, B, C, self.config.chunk_size)
        return scanned


class GatedRMSNorm(nn.Module):
    """RMSNorm(y * silu(z)) * weight: the gate multiplies before the norm (section 7.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = undecayed(torch.ones(channels))

    def forward(self, y: Float[Tensor, "B L E"], z: Float[Tensor, "B L E"]) -> Float[Tensor, "B L E"]:
        gated = at_least_float32(y) * F.silu(at_least_float32(z))
        return (rms_norm(gated) * self.weight).to(y.dtype)


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
