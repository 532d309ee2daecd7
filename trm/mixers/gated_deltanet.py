"""Gated DeltaNet (Yang, Kautz & Hatamizadeh, arXiv 2412.06464): the delta rule with one decay a head.

The block is that of `trm.mixers.delta_rule`, where the names stand too. Its decay and its gate are

    g = -exp(A_log) softplus(W x + dt_bias)    for each value head
    gate = silu(W x)

With more value heads than heads, value head h has the q and k of head h // (num_v_heads / num_heads).

Initialisation as published: A_log = log U(0, 16), and softplus(dt_bias) log-uniform in [1e-3, 0.1].
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from trm.grid import Layout
from trm.layers import CastedLinear, at_least_float32, dt_bias_init, undecayed
from trm.mixers.base import KEY
from trm.mixers.delta_rule import DeltaRule, DeltaRuleConfig


class GatedDeltaNetConfig(DeltaRuleConfig):
    kind: Literal["gated_deltanet"] = "gated_deltanet"
    sixteenths = (8, 16)
    out_gain: float = Field(0.3, gt=0.0)  # at 128 channels the loop amplifies about once (docs/mixers.md)
    num_v_heads: int | None = Field(None, ge=1)  # None: num_heads

    @property
    def value_heads(self) -> int:
        return self.num_v_heads or self.num_heads

    def check(self, hidden_size: int, key: str = KEY) -> None:
        if self.value_heads % self.num_heads:
            raise ValueError(
                f"{key}.num_v_heads is {self.num_v_heads}, but value heads share the keys of num_heads, "
                f"{self.num_heads}, equally: give a multiple of {self.num_heads}"
            )
        super().check(hidden_size, key)

    def build(
        self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None
    ) -> GatedDeltaNet:
        self.check(hidden_size)
        return GatedDeltaNet(self, hidden_size, layout, scan_index)

    def projections(self, hidden_size: int) -> int:
        keys, values = self.key_channels(hidden_size), self.value_channels(hidden_size)
        return hidden_size * (2 * keys + 3 * values + 2 * self.selections * self.value_heads)

    def decays(self, hidden_size: int) -> int:
        return 1

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        return fields | {"num_v_heads": self.value_heads}


class GatedDeltaNet(DeltaRule):
    def __init__(
        self, config: GatedDeltaNetConfig, hidden_size: int, layout: Layout, scan_index: int
    ) -> None:
        super().__init__(config, hidden_size, layout, scan_index)
        heads = config.value_heads
        self.a_proj = CastedLinear(hidden_size, config.selections * heads)
        self.A_log = undecayed(torch.empty(heads).uniform_(0, 16).log())
        self.dt_bias = undecayed(dt_bias_init(heads))
        self.g_proj = CastedLinear(hidden_size, config.value_channels(hidden_size))

    def step_sizes(self, hidden_states: Tensor) -> Tensor:
        return self.a_proj(hidden_states)

    def gate(self, hidden_states: Tensor) -> Tensor:
        return F.silu(at_least_float32(self.g_proj(hidden_states)))
