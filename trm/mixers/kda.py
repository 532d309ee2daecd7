"""Kimi Delta Attention (Kimi Linear, arXiv 2510.26692): the delta rule with a decay for every key channel.

The block is that of `trm.mixers.delta_rule`, where the names stand too. Its decay and its gate are

    g = -exp(A_log) softplus(W2 W1 x + dt_bias)    for each key channel; A_log for each head
    gate = sigmoid(W4 W3 x + b)

where W1 and W3 map to `head_dim` channels. Under `direction: bidirectional` each reading has its own W2.

Initialisation as published: A_log = log U(1, 16), and softplus(dt_bias) log-uniform in [1e-3, 0.1].
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import CastedLinear, at_least_float32, dt_bias_init, undecayed
from trm.mixers.delta_rule import DeltaRule, DeltaRuleConfig


class KDAConfig(DeltaRuleConfig):
    kind: Literal["kda"] = "kda"
    sixteenths = (13, 13)
    out_gain: float = Field(0.5, gt=0.0)  # at 128 channels the loop amplifies 0.6 times (docs/mixers.md)

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> KDA:
        self.check(hidden_size)
        return KDA(self, hidden_size, layout, scan_index)

    def projections(self, hidden_size: int) -> int:
        keys, values = self.key_channels(hidden_size), self.value_channels(hidden_size)
        full = hidden_size * (2 * keys + 2 * values + self.selections * self.num_heads)
        low_rank = values // self.num_heads * (2 * hidden_size + self.selections * keys + values)
        return full + low_rank

    def decays(self, hidden_size: int) -> int:
        return self.key_channels(hidden_size) // self.num_heads

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        return super().num_params(hidden_size, layout) + self.value_channels(hidden_size)  # b


class KDA(DeltaRule):
    def __init__(self, config: KDAConfig, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__(config, hidden_size, layout, scan_index)
        keys, values = config.key_channels(hidden_size), config.value_channels(hidden_size)
        self.f_proj = self._low_rank(hidden_size, config.selections * keys)
        self.A_log = undecayed(torch.empty(config.num_heads).uniform_(1, 16).log())
        self.dt_bias = undecayed(dt_bias_init(keys))
        self.g_proj = self._low_rank(hidden_size, values, bias=True)

    def _low_rank(self, channels: int, outputs: int, bias: bool = False) -> nn.Sequential:
        to_inner = CastedLinear(channels, self.head_dim)
        return nn.Sequential(to_inner, CastedLinear(self.head_dim, outputs, bias=bias))

    def step_sizes(self, hidden_states: Tensor) -> Tensor:
        return self.f_proj(hidden_states)

    def gate(self, hidden_states: Tensor) -> Tensor:
        return at_least_float32(self.g_proj(hidden_states)).sigmoid()
