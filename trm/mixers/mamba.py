"""Mamba (Gu & Dao, arXiv 2312.00752): the selective state-space model, with a step size for every channel.

The function is that of section 3.4. Deviations: initial values and directions as in `trm.mixers.ssm`; the
default `expand` gives as many parameters as attention, not the published expand = 2.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import CastedLinear, at_least_float32, dt_bias_init, undecayed
from trm.mixers.base import KEY
from trm.mixers.kernels import mamba_ssm
from trm.mixers.kernels.conv import CausalConv1d
from trm.mixers.kernels.scan import selective_scan
from trm.mixers.order import TokenOrder, join
from trm.mixers.ssm import SSMConfig, of_direction


class MambaConfig(SSMConfig):
    kernels: ClassVar = mamba_ssm.SCAN
    kind: Literal["mamba"] = "mamba"
    d_state: int = Field(16, ge=1)
    dt_rank: int | None = Field(None, ge=1)  # None: hidden_size / 16, rounded up

    def rank(self, hidden_size: int) -> int:
        return self.dt_rank or math.ceil(hidden_size / 16)

    @property
    def saved_by_compiling(self) -> float:
        return 0.12

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> Mamba:
        self.check(hidden_size)
        return Mamba(self, hidden_size, layout, scan_index)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        inner, rank = self.d_inner(hidden_size), self.rank(hidden_size)
        selection = rank + 2 * self.d_state  # dt, B and C
        dynamics = self.d_conv + 1 + rank + 1 + self.d_state + 1  # convolution, step size, A and D
        own = self.selections * selection + self.dynamics * dynamics
        return 3 * hidden_size * inner + inner * own

    def flops(self, hidden_size: int, layout: Layout) -> int:
        inner, rank = self.d_inner(hidden_size), self.rank(hidden_size)
        projections = 3 * hidden_size * inner + len(self.reversals(0)) * inner * 2 * (rank + self.d_state)
        return 2 * layout.seq_len * projections + self.uncounted_flops(hidden_size, layout)

    def uncounted_flops(self, hidden_size: int, layout: Layout) -> int:
        """C h of every scan, which is inside an operator."""
        return 2 * layout.seq_len * len(self.reversals(0)) * self.d_inner(hidden_size) * self.d_state

    def check(self, hidden_size: int, key: str = KEY) -> None:
        super().check(hidden_size, key)
        self.check_shares(self.d_inner(hidden_size), "channels", "expand", key)
        self.check_rank("dt_rank", self.d_inner(hidden_size), key)
        if self.direction == "quasiseparable":
            raise ValueError(
                f"{key}.direction is 'quasiseparable', which only mamba2 has (its diagonal has a number for "
                f"each head, and in mamba each channel is one): set kind to mamba2, or direction to another"
            )

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        return fields | {"dt_rank": self.rank(hidden_size)}


class Mamba(nn.Module):
    """out_proj((scan(x, dt, B, C) + D x) * silu(z)); names, directions and orders as in `trm.mixers.ssm`."""

    def __init__(self, config: MambaConfig, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__()
        self.backend = config.backend
        self.reversals = config.reversals(scan_index)
        self.token_orders = nn.ModuleList(TokenOrder(order, layout) for order in config.orders)
        self.inner, rank = config.d_inner(hidden_size), config.rank(hidden_size)
        self.sizes = [rank, config.d_state, config.d_state]  # of dt, B and C
        rows = config.dynamics * self.inner
        self.in_proj = CastedLinear(hidden_size, 2 * self.inner)
        self.conv1d = CausalConv1d(rows, config.d_conv)
        self.x_proj = CastedLinear(self.inner, config.selections * sum(self.sizes))
        self.dt_proj = nn.Linear(rank, rows)  # its bias is added in float32
        with torch.no_grad():
            self.dt_proj.weight.uniform_(-(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = undecayed(dt_bias_init(rows))
        states = torch.arange(1, config.d_state + 1, dtype=torch.float32)
        self.A_log = undecayed(states.log().repeat(rows, 1))
        self.D = undecayed(torch.ones(rows))
        self.out_proj = CastedLinear(self.inner, hidden_size, gain=config.out_gain)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        x, z = self.in_proj(hidden_states).chunk(2, dim=-1)
        directions = [self._one_direction(x, index) for index in range(len(self.reversals))]
        y = directions[0] if len(directions) == 1 else (directions[0] + directions[1]) / 2
        return self.out_proj(y * F.silu(z))

    def _one_direction(self, x: Float[Tensor, "B L E"], index: int) -> Float[Tensor, "B L E"]:
        """One scan of the tokens, each group of channels in its own order."""
        reverse, groups = self.reversals[index], len(self.token_orders)
        x_proj = of_direction(self.x_proj.weight, sum(self.sizes), index)
        dt_proj, dt_bias, A_log, D = (
            of_direction(each, self.inner, index)
            for each in (self.dt_proj.weight, self.dt_proj.bias, self.A_log, self.D)
        )
        x = self._convolve(x, index)
        dt, B, C = F.linear(x, x_proj.to(x.dtype)).split(self.sizes, dim=-1)
        dt = F.softplus(at_least_float32(F.linear(dt, dt_proj.to(x.dtype))) + dt_bias)
        # Without TokenOrder's `reverse`, which would copy: convolution and scan can run backwards themselves.
        parts = zip(
            self.token_orders,
            *(v.chunk(groups, -1) for v in (x, dt, D)),
            (-A_log.exp()).chunk(groups),
            strict=True,
        )
        return join(
            [
                token_order(self._scan, x_, dt_, B, C, A=A, D=D_, backwards=reverse)
                for token_order, x_, dt_, D_, A in parts
            ]
        )

    def _convolve(self, x: Float[Tensor, "B L E"], index: int) -> Float[Tensor, "B L E"]:
        groups = len(self.token_orders)
        first = index * self.inner % len(self.conv1d.weight)
        starts = range(first, first + self.inner, self.inner // groups)
        parts = zip(self.token_orders, x.chunk(groups, -1), starts, strict=True)
        return join(
            [
                token_order(self.conv1d, part, start=at, backwards=self.reversals[index])
                for token_order, part, at in parts
            ]
        )

    def _scan(
        self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor, backwards: bool
    ) -> Tensor:
        if self.backend == "mamba_ssm":
            return mamba_ssm.selective_scan(x, dt, A, B, C, D, backwards)
        return selective_scan(x, dt, A, B, C, D, backwards, compiled=self.backend == "auto")
