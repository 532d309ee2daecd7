"""The common parts of the mixers with a gated delta rule: Gated DeltaNet and Kimi Delta Attention (KDA).

Names here and in the papers:

    D  hidden_size    H  num_heads    K  d_state, key channels a head    V  head_dim, value channels a head
    L  tokens         k  d_conv, the convolutions' taps

The state of a head is a K x V matrix, a memory of values by their keys. It decays at each token, which then
replaces the share beta of what the memory has at its key with its own value (`trm.mixers.kernels.delta`).

The block, where W are linear maps:

    q, k, v  silu(conv(W x)), causal depthwise convolutions of d_conv taps without bias
             q and k then divided by sqrt(|.|^2 + 1e-6) for each head, and q by sqrt(K)
    beta     sigmoid(W x), a number a head; twice that with `allow_neg_eigval`
    g        the log of the decay, a mixer's own
    y        the recurrence's
    output   W (RMSNorm(y) gate(x)); the norm is over a head's V channels, with one weight (V,) for all
             heads, and the gate a mixer's own

With `allow_neg_eigval` the state's transition has an eigenvalue 1 - beta down to -1, so that a token may turn
a part of the memory over and not just erase it. Under `direction: bidirectional` each reading has its own
rows of the projections to beta and g.

Deviations of both mixers: the projections have LeCun initialisation, and `o_proj` starts at `out_gain` times
that; by default the sizes are such that there are as many parameters as in attention.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import CastedLinear, at_least_float32, rms_norm, undecayed
from trm.mixers.base import KEY
from trm.mixers.kernels import delta
from trm.mixers.kernels.conv import CausalConv1d
from trm.mixers.scans import ScanConfig, Scans


class DeltaRuleConfig(ScanConfig):
    added: ClassVar[tuple[str, ...]] = ()
    sixteenths: ClassVar[tuple[int, int]]  # of hidden_size, which all heads' keys and values have by default
    num_heads: int = Field(4, ge=1)
    d_state: int | None = Field(None, ge=1)  # key channels a head
    head_dim: int | None = Field(None, ge=1)  # value channels a head
    d_conv: int = Field(4, ge=1)
    allow_neg_eigval: bool = False
    chunk_size: int = Field(64, ge=1)  # tokens in a chunk, if the sequence is too long for one system

    @property
    def value_heads(self) -> int:
        return self.num_heads

    def key_channels(self, hidden_size: int) -> int:
        """Of all heads."""
        default = self.sixteenths[0] * hidden_size // 16
        return default if self.d_state is None else self.num_heads * self.d_state

    def value_channels(self, hidden_size: int) -> int:
        """Of all heads."""
        default = self.sixteenths[1] * hidden_size // 16
        return default if self.head_dim is None else self.value_heads * self.head_dim

    def check(self, hidden_size: int, key: str = KEY) -> None:
        self.check_shares(self.num_heads, "heads", "num_heads", key)
        for field, heads, channels in (
            ("d_state", self.num_heads, self.key_channels(hidden_size)),
            ("head_dim", self.value_heads, self.value_channels(hidden_size)),
        ):
            if channels % heads or not channels:
                raise ValueError(
                    f"{key}.{field} is made from model.hidden_size, {hidden_size}, but {heads} heads do not "
                    f"share {channels} channels equally: give {field}, or another number of heads"
                )

    @abstractmethod
    def projections(self, hidden_size: int) -> int:
        """Weights of the linear maps."""

    @abstractmethod
    def decays(self, hidden_size: int) -> int:
        """Of a head: one, or one for each key channel."""

    def sizes(self, hidden_size: int, layout: Layout) -> delta.Sizes:
        K = self.key_channels(hidden_size) // self.num_heads
        V = self.value_channels(hidden_size) // self.value_heads
        decays = self.decays(hidden_size)
        return delta.Sizes(layout.seq_len, self.value_heads, self.num_heads, K, V, decays, self.chunk_size)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        _, heads, key_heads, K, V, decays, _ = self.sizes(hidden_size, layout)
        convolutions = self.d_conv * (2 * key_heads * K + heads * V)
        dynamics = heads + heads * decays  # A_log and dt_bias
        return self.projections(hidden_size) + convolutions + dynamics + V  # the norm's weight

    def flops(self, hidden_size: int, layout: Layout) -> int:
        linear = 2 * layout.seq_len * self.projections(hidden_size)
        scans = len(self.reversals(0)) * delta.flops(self.sizes(hidden_size, layout))
        return linear + scans + self.uncounted_flops(hidden_size, layout)

    def uncounted_flops(self, hidden_size: int, layout: Layout) -> int:
        """The triangular solves."""
        return len(self.reversals(0)) * delta.solve_flops(self.sizes(hidden_size, layout))

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["chunk_size"]  # it changes only the order of summation
        return fields | {
            "d_state": self.key_channels(hidden_size) // self.num_heads,
            "head_dim": self.value_channels(hidden_size) // self.value_heads,
        }


class DeltaRule(nn.Module):
    """The block above; parameters are named and shaped as in the public implementation (fla).

    A subclass has the projections to the decay and to the gate, A_log (H,) and dt_bias.
    """

    A_log: nn.Parameter
    dt_bias: nn.Parameter

    def __init__(self, config: DeltaRuleConfig, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__()
        self.config = config
        self.scans = Scans(config, layout, scan_index)
        keys, values = config.key_channels(hidden_size), config.value_channels(hidden_size)
        self.d_state, self.head_dim = keys // config.num_heads, values // config.value_heads
        self.q_proj = CastedLinear(hidden_size, keys)
        self.k_proj = CastedLinear(hidden_size, keys)
        self.v_proj = CastedLinear(hidden_size, values)
        self.b_proj = CastedLinear(hidden_size, config.selections * config.value_heads)
        self.q_conv1d = CausalConv1d(keys, config.d_conv, bias=False)
        self.k_conv1d = CausalConv1d(keys, config.d_conv, bias=False)
        self.v_conv1d = CausalConv1d(values, config.d_conv, bias=False)
        self.o_norm = HeadNorm(self.head_dim)
        self.o_proj = CastedLinear(values, hidden_size, gain=config.out_gain)

    @abstractmethod
    def step_sizes(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L S"]:
        """The softplus' argument without dt_bias, for each set of the parameters that select."""

    @abstractmethod
    def gate(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L E"]:
        """What the normed output is multiplied by, for E = H V value channels."""

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        x, sets = hidden_states, self.config.selections
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        own = (each.chunk(sets, dim=-1) for each in (self.b_proj(x), self.step_sizes(x)))
        y = self.scans(self._read, q, k, v, *own)
        return self.o_proj(self.o_norm(y, self.gate(x)))

    def _read(
        self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, step: Tensor, index: int, group: int
    ) -> Float[Tensor, "B L E"]:
        """One reading by a group of heads, of tokens as they are read."""
        q, k = (
            _unit(conv(x, start=group * x.shape[-1]).unflatten(-1, (-1, self.d_state)))
            for conv, x in ((self.q_conv1d, q), (self.k_conv1d, k))
        )
        v = self.v_conv1d(v, start=group * v.shape[-1]).unflatten(-1, (-1, self.head_dim))
        beta = at_least_float32(beta).sigmoid() * (2 if self.config.allow_neg_eigval else 1)
        groups = len(self.config.orders)
        A_log, dt_bias = (each.chunk(groups)[group] for each in (self.A_log, self.dt_bias))
        step = F.softplus(at_least_float32(step) + dt_bias).unflatten(-1, (len(A_log), -1))
        log_decay = -A_log.exp()[:, None] * step
        y = delta.delta_rule(q * self.d_state**-0.5, k, v, log_decay, beta, self.config.chunk_size)
        return y.flatten(2)


class HeadNorm(nn.Module):
    """RMSNorm over the channels of each head, with a weight that all heads share, and then the gate."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = undecayed(torch.ones(head_dim))

    def forward(self, y: Float[Tensor, "B L E"], gate: Float[Tensor, "B L E"]) -> Float[Tensor, "B L E"]:
        heads = at_least_float32(y).unflatten(-1, (-1, len(self.weight)))
        return ((rms_norm(heads) * self.weight).flatten(-2) * gate).to(y.dtype)


def _unit(x: Float[Tensor, "B L H K"]) -> Float[Tensor, "B L H K"]:
    """Each head's channels at norm 1, or less where they are nearly 0; in float32 or wider, as a key of a
    rounded norm would let the state grow where beta is 2."""
    wide = at_least_float32(x)
    return wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + 1e-6)
