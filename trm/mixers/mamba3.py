"""Mamba-3 (arXiv 2603.15569), SISO: a state-space model with a trapezoidal step and turned keys.

One projection of the input gives z, x (E channels in H heads), B and C (N states for each of the `ngroups`
groups of heads), and, for each head, dt, A and lam; and S angular rates, which the heads share. Then

    dt = softplus(. + dt_bias),   A = -max(h(.), 1e-4),   h(u) = 1 + u for u >= 0, else 1 / (1 - u)

B and C are normalised over N (RMSNorm) and each head adds biases of its own. The recurrence is in
`trm.mixers.kernels.mamba3`. Of its y, (RMSNorm over each head(y + D x) * silu(z)) goes to the output
projection; without `output_norm`, there is no such norm.

Deviations. `output_norm` is an option of the official code that is off there: without it a new mixer's
output is 1.4 to 4 times its input at 128 channels (attention's is 0.2 times it), and the loop multiplies a
perturbation 10^4-fold and more. The projections have LeCun initialisation (`trm.mixers.ssm`), the output's
times `out_gain`. Norms and the biases of B and C have no weight decay here. The default `expand` and
`d_state` give as many parameters as attention, not the published 2 and 128.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import CastedLinear, at_least_float32, dt_bias_init, rms_norm, undecayed
from trm.mixers.base import KEY
from trm.mixers.inner import InnerConfig, divisors
from trm.mixers.kernels import mamba3, ssd
from trm.mixers.scans import Scans

A_FLOOR = 1e-4


class Mamba3Config(InnerConfig):
    """`expand` x hidden_size channels in heads of `headdim`, each with a state of headdim x `d_state`."""

    added = ()
    kind: Literal["mamba3"] = "mamba3"
    d_state: int = Field(32, ge=2)
    headdim: int = Field(80, ge=1)
    ngroups: int = Field(1, ge=1)
    rope_fraction: float = Field(0.5, gt=0.0, le=1.0)  # of the states, which are turned, in pairs
    output_norm: bool = True
    chunk_size: int = Field(64, ge=1)  # tokens in a chunk, if the sequence is too long for the quadratic form

    def num_heads(self, hidden_size: int) -> int:
        return self.d_inner(hidden_size) // self.headdim

    @property
    def num_angles(self) -> int:
        return round(self.d_state * self.rope_fraction / 2)

    def selecting(self, hidden_size: int) -> list[int]:
        """Channels of the projection to B, C, dt, A, lam and the angles; each reading may have its own."""
        shared, heads = self.ngroups * self.d_state, self.num_heads(hidden_size)
        return [shared, shared, heads, heads, heads, self.num_angles]

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> Mamba3:
        self.check(hidden_size)
        return Mamba3(self, hidden_size, layout, scan_index)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        inner, heads = self.d_inner(hidden_size), self.num_heads(hidden_size)
        projections = hidden_size * (3 * inner + self.selections * sum(self.selecting(hidden_size)))
        return projections + 2 * heads * (1 + self.d_state) + 2 * self.d_state + inner * self.output_norm

    def flops(self, hidden_size: int, layout: Layout) -> int:
        inner, heads, orders = self.d_inner(hidden_size), self.num_heads(hidden_size), len(self.orders)
        projected = 3 * inner + self.selections * sum(self.selecting(hidden_size))
        share = heads // orders
        sizes = share, self.headdim, share, self.d_state, self.chunk_size
        scans = len(self.reversals(0)) * orders * ssd.flops(layout.seq_len, *sizes)
        return 2 * layout.seq_len * hidden_size * projected + scans

    def check(self, hidden_size: int, key: str = KEY) -> None:
        super().check(hidden_size, key)
        self.check_divides("headdim", self.d_inner(hidden_size), hidden_size, key)
        heads = self.num_heads(hidden_size)
        if heads % self.ngroups:
            raise ValueError(
                f"{key}.ngroups is {self.ngroups}, which does not divide the {heads} heads: "
                f"give one of {divisors(heads)}"
            )
        self.check_shares(heads, "heads", "headdim", key)
        if self.ngroups > 1 and self.ngroups % len(self.orders):
            raise ValueError(
                f"{key}.ngroups is {self.ngroups}, but heads that share B and C read in one order, of which "
                f"there are {len(self.orders)}: give 1, or a multiple of {len(self.orders)}"
            )
        turned = self.d_state * self.rope_fraction
        if self.num_angles < 1 or abs(turned - 2 * self.num_angles) > 1e-3:
            raise ValueError(
                f"{key}.d_state x {key}.rope_fraction, the states that are turned in pairs, must be even, "
                f"but {self.d_state} x {self.rope_fraction} = {turned:g}: give an even d_state, and a "
                f"rope_fraction such as {2 * max(1, self.num_angles) / (self.d_state + self.d_state % 2):.6g}"
            )

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["chunk_size"], fields["rope_fraction"]  # the former changes only the order of summation
        return fields | {"num_angles": self.num_angles}


class Mamba3(nn.Module):
    """Names as above, with the official code's for the parameters."""

    def __init__(self, config: Mamba3Config, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__()
        self.config = config
        self.inner, self.heads = config.d_inner(hidden_size), config.num_heads(hidden_size)
        self.groups = len(config.orders)
        self.scans = Scans(config, layout, scan_index)
        self.sizes = config.selecting(hidden_size)
        # The order of the channels is z, x, then those of `selecting` for each set.
        self.in_proj = CastedLinear(hidden_size, 2 * self.inner + config.selections * sum(self.sizes))
        self.dt_bias = undecayed(dt_bias_init(self.heads))
        self.B_bias, self.C_bias = (undecayed(torch.ones(self.heads, config.d_state)) for _ in range(2))
        self.B_norm, self.C_norm = (undecayed(torch.ones(config.d_state)) for _ in range(2))
        self.D = undecayed(torch.ones(self.heads))
        self.norm_weight = undecayed(torch.ones(self.inner)) if config.output_norm else None
        self.out_proj = CastedLinear(self.inner, hidden_size, gain=config.out_gain)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        sets = self.config.selections
        z, x, *own = self.in_proj(hidden_states).split(
            [self.inner, self.inner, *[sum(self.sizes)] * sets], dim=-1
        )
        selecting = [self._selecting(each) for each in own]
        y = self.scans(self._mix, x, *zip(*selecting, strict=True))
        if self.norm_weight is not None:
            y = rms_norm(y.unflatten(-1, (self.heads, -1))).flatten(2) * self.norm_weight
        return self.out_proj((y * F.silu(z)).to(z.dtype))

    def _selecting(self, own: Tensor) -> tuple[Tensor, ...]:
        """B, C, dt, A dt, lam (before its sigmoid) and the angles of one set, for all groups of heads."""
        B, C, dt, A, trap, angles = own.split(self.sizes, dim=-1)
        B, C = (
            (rms_norm(v.unflatten(-1, (self.config.ngroups, -1))) * norm.to(v.dtype)).flatten(2)
            for v, norm in ((B, self.B_norm), (C, self.C_norm))
        )
        if self.config.ngroups == 1:
            B, C = (self.scans.for_every_group(v) for v in (B, C))
        dt, A, trap, angles = (at_least_float32(v) for v in (dt, A, trap, angles))
        dt = F.softplus(dt + self.dt_bias)
        above = F.relu(A)
        A = above + 1 / (1 + above - A)  # h, with its derivative at 0, where inputs of zeros are
        return B, C, dt, -A.clamp(min=A_FLOOR) * dt, trap, self.scans.for_every_group(angles)

    def _mix(
        self,
        x: Float[Tensor, "B L E"],
        B: Tensor,
        C: Tensor,
        dt: Float[Tensor, "B L H"],
        a_dt: Float[Tensor, "B L H"],
        trap: Float[Tensor, "B L H"],
        angles: Float[Tensor, "B L S"],
        index: int,
        group: int,
    ) -> Float[Tensor, "B L E"]:
        """The recurrence of a group of heads, on tokens in scan order."""
        B, C = (v.unflatten(-1, (-1, self.config.d_state)) for v in (B, C))
        C_bias, B_bias, D = (v.chunk(self.groups)[group] for v in (self.C_bias, self.B_bias, self.D))
        x = x.unflatten(-1, (-1, self.config.headdim))
        angles = angles[:, :, None]
        chunk_size = self.config.chunk_size
        y = mamba3.mamba3(C, B, x, a_dt, dt, trap, C_bias, B_bias, angles, D, chunk_size)
        return y.flatten(2)
