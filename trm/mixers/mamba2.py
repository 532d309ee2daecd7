"""Mamba-2 (Dao & Gu, arXiv 2405.21060): state-space duality in the parallel block of its figure 6.

Deviations: initial values and directions as in `trm.mixers.ssm`, and `out_proj` starts at `out_gain` (0.3)
times that; the defaults `expand` and `d_state` give as many parameters as attention, not the official block's
expand = 2 and d_state = 128.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import CastedLinear, at_least_float32, dt_bias_init, rms_norm, undecayed
from trm.mixers.base import KEY
from trm.mixers.inner import divisors
from trm.mixers.kernels import mamba_ssm, ssd
from trm.mixers.kernels.conv import CausalConv1d
from trm.mixers.scans import Scans
from trm.mixers.ssm import SSMConfig, of_direction


class Mamba2Config(SSMConfig):
    """`expand` x hidden_size channels in heads of `headdim`; B and C are shared by the heads of a group."""

    added = ("norm_by_group",)
    kernels: ClassVar = mamba_ssm.CHUNK_SCAN
    kind: Literal["mamba2"] = "mamba2"
    d_state: int = Field(64, ge=1)
    headdim: int = Field(64, ge=1)
    ngroups: int = Field(1, ge=1)
    norm_by_group: bool = True  # as the official block; False: over all channels, as Mamba2Simple
    chunk_size: int = Field(64, ge=1)  # tokens in a chunk, if the sequence is too long for the quadratic form
    # The output of the gated norm has unit scale, five times that of attention; with gain 1 the loop of a new
    # network amplifies a change, and with 0.3 it does not (docs/mixers.md).
    out_gain: float = Field(0.3, gt=0.0)

    @property
    def norm_groups(self) -> int:
        """Groups of channels that the gated norm scales each by itself."""
        return self.ngroups if self.norm_by_group else 1

    def left_out(self) -> list[str]:
        # Of several groups the first version's norm was not the default's: it is always told.
        return super().left_out() if self.ngroups == 1 else []

    def num_heads(self, hidden_size: int) -> int:
        return self.d_inner(hidden_size) // self.headdim

    @property
    def saved_by_compiling(self) -> float:
        return 0.17

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> Mamba2:
        self.check(hidden_size)
        module = QuasiSeparable if self.direction == "quasiseparable" else Mamba2
        return module(self, hidden_size, layout, scan_index)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        inner, heads = self.d_inner(hidden_size), self.num_heads(hidden_size)
        shared = 2 * self.selections * self.ngroups * self.d_state  # B and C of all sets
        projections = hidden_size * (3 * inner + shared + self.selections * heads)
        convolution = (self.dynamics * inner + shared) * (self.d_conv + 1)
        diagonal = inner * heads if self.direction == "quasiseparable" else 0
        return projections + convolution + 3 * self.dynamics * heads + inner + diagonal

    def flops(self, hidden_size: int, layout: Layout) -> int:
        inner, heads = self.d_inner(hidden_size), self.num_heads(hidden_size)
        own = 2 * self.ngroups * self.d_state + heads
        diagonal = inner * heads if self.direction == "quasiseparable" else 0
        projections = 2 * layout.seq_len * (hidden_size * (3 * inner + self.selections * own) + diagonal)
        orders = len(self.orders)
        sizes = heads // orders, self.headdim, max(1, self.ngroups // orders), self.d_state, self.chunk_size
        return projections + len(self.reversals(0)) * orders * ssd.flops(layout.seq_len, *sizes)

    def check(self, hidden_size: int, key: str = KEY) -> None:
        super().check(hidden_size, key)
        inner = self.d_inner(hidden_size)
        self.check_divides("headdim", inner, hidden_size, key)
        heads = inner // self.headdim
        if heads % self.ngroups:
            raise ValueError(
                f"{key}.ngroups is {self.ngroups}, which does not divide the {heads} heads ({inner} "
                f"channels in heads of {self.headdim}): give one of {divisors(heads)}"
            )
        self.check_shares(heads, "heads", "expand", key)
        if self.ngroups > 1 and self.ngroups % len(self.orders):
            raise ValueError(
                f"{key}.ngroups is {self.ngroups}, but heads that share B and C read in one order, of which "
                f"there are {len(self.orders)}: give 1, or a multiple of {len(self.orders)}"
            )

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["chunk_size"]  # it changes only the order of summation
        fields.pop("norm_by_group", None)
        return fields | ({"norm_groups": self.norm_groups} if self.ngroups > 1 else {})


class Mamba2(nn.Module):
    """out_proj(RMSNorm(ssd(x, dt, B, C) * silu(z))); names, directions and orders as in `trm.mixers.ssm`."""

    def __init__(self, config: Mamba2Config, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__()
        self.config = config
        self.groups = len(config.orders)
        self.scans = Scans(config, layout, scan_index)
        self.inner, self.heads = config.d_inner(hidden_size), config.num_heads(hidden_size)
        self.shared = 2 * config.ngroups * config.d_state  # channels of B and C together
        own = config.selections * self.shared
        # The order of the channels is z, x, then B, C, dt of each set.
        self.in_proj = CastedLinear(hidden_size, 2 * self.inner + own + config.selections * self.heads)
        convolved = config.dynamics * self.inner + own
        self.conv1d = CausalConv1d(convolved, config.d_conv)
        rows = config.dynamics * self.heads
        self.dt_bias = undecayed(dt_bias_init(rows))
        self.A_log = undecayed(torch.empty(rows).uniform_(1, 16).log())
        self.D = undecayed(torch.ones(rows))
        self.norm = GatedRMSNorm(self.inner, config.norm_groups)
        self.out_proj = CastedLinear(self.inner, hidden_size, gain=config.out_gain)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        z, x, BC, dt = self._project(hidden_states)
        return self.out_proj(self.norm(self.scans(self._mix, x, BC, dt), z))

    def _project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """z and x, (B, L, E), and for each set B and C together, (B, L, S) for each group of heads, and dt,
        (B, L, H)."""
        sizes = [self.inner, self.inner, *[self.shared, self.heads] * self.config.selections]
        z, x, *own = self.in_proj(hidden_states).split(sizes, dim=-1)
        return z, x, [self.scans.for_every_group(BC) for BC in own[::2]], own[1::2]

    def _mix(self, x: Tensor, BC: Tensor, dt: Tensor, index: int, group: int) -> Tensor:
        """The scan of a group of heads, on tokens in scan order: x (B, L, E / groups) -> the same shape."""
        x = self.conv1d(x, self._first_filter(index, group))
        BC = self.conv1d(BC, self._first_filter_of_BC(index))
        y = self._ssd(x, BC, dt, index, group)
        D = of_direction(self.D, self.heads, index).chunk(self.groups)[group]
        return y + D.repeat_interleave(self.config.headdim).to(x.dtype) * x

    def _first_filter(self, index: int, group: int) -> int:
        """Of a group's x; the filters of x come before those of B and C."""
        own = index % self.config.dynamics
        return own * self.inner + group * (self.inner // self.groups)

    def _first_filter_of_BC(self, index: int) -> int:
        return self.config.dynamics * self.inner + index % self.config.selections * self.shared

    def _ssd(self, x: Tensor, BC: Tensor, dt: Tensor, index: int, group: int) -> Tensor:
        """The recurrence of a group of heads, on convolved x, B and C."""
        ngroups = self.config.ngroups
        B, C = rearrange(BC, "b l (two g n) -> two b l g n", two=2, g=ngroups).unbind()
        if ngroups > 1:
            B, C = (v.chunk(self.groups, dim=2)[group] for v in (B, C))
        dt_bias, A_log = (
            of_direction(each, self.heads, index).chunk(self.groups)[group]
            for each in (self.dt_bias, self.A_log)
        )
        dt = F.softplus(at_least_float32(dt) + dt_bias)
        x = rearrange(x, "b l (h p) -> b l h p", p=self.config.headdim)
        return rearrange(self._scan(x, dt, -A_log.exp(), B, C), "b l h p -> b l (h p)")

    def _scan(self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        scan = mamba_ssm.chunk_scan if self.config.backend == "mamba_ssm" else ssd.ssd
        return scan(x, dt, A, B, C, self.config.chunk_size)


class QuasiSeparable(Mamba2):
    """Hydra's quasi-separable mixer (Hwang et al., arXiv 2407.09941): `direction: quasiseparable`.

    The matrix that mixes the tokens of a head has a strictly lower and a strictly upper part of N states
    each, and a separate diagonal:

        y = shift(ssd(x)) + flip(shift(ssd(flip(x)))) + (D + fc_D x) x

    `shift` gives each token the output of the one before it, and zeros to the first token: y_t uses C_{t-1}.
    Both scans share A, D and the bias of dt; each has its own B, C and dt. x, B and C have one centred
    convolution.

    Deviations, so that a sweep over `direction` changes the matrix alone: A starts as in Mamba-2, not at 1;
    the gate multiplies before the norm, as in Mamba-2, not after it; `d_conv` is 4 by default, not 7, and
    where it is even the convolution reaches one token further back than ahead; `fc_D` starts as the other
    projections do.
    """

    def __init__(self, config: Mamba2Config, hidden_size: int, layout: Layout, scan_index: int) -> None:
        super().__init__(config, hidden_size, layout, scan_index)
        self.fc_D = CastedLinear(self.inner, self.heads)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        z, x, BC, dt = self._project(hidden_states)
        x = self.scans.in_order(lambda x, group: self._centred(x, self._first_filter(0, group)), x)
        forward, backward = self.scans.readings(self._mix, x, BC, dt)
        diagonal = self.fc_D(x) + self.D.to(x.dtype)
        y = forward + backward + diagonal.repeat_interleave(self.config.headdim, dim=-1) * x
        return self.out_proj(self.norm(y, z))

    def _centred(self, x: Float[Tensor, "B L E"], start: int) -> Float[Tensor, "B L E"]:
        ahead = (self.config.d_conv - 1) // 2
        return self.conv1d(F.pad(x, (0, 0, 0, ahead)), start)[:, ahead:]

    def _mix(self, x: Tensor, BC: Tensor, dt: Tensor, index: int, group: int) -> Tensor:
        """The strictly triangular part of a group of heads; x is already convolved."""
        flipped = self.scans.reversals[index]
        BC = BC.flip(1) if flipped else BC
        BC = self._centred(BC, self._first_filter_of_BC(index))
        BC = BC.flip(1) if flipped else BC
        return F.pad(self._ssd(x, BC, dt, index, group), (0, 0, 1, -1))


class GatedRMSNorm(nn.Module):
    """RMSNorm(y * silu(z)) * weight: the gate multiplies before the norm (section 7.1).

    Each of `groups` groups of neighbouring channels is scaled to unit root mean square by itself.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = undecayed(torch.ones(channels))

    def forward(self, y: Float[Tensor, "B L E"], z: Float[Tensor, "B L E"]) -> Float[Tensor, "B L E"]:
        gated = at_least_float32(y) * F.silu(at_least_float32(z))
        normed = rms_norm(gated.unflatten(-1, (self.groups, -1))).flatten(-2)
        return (normed * self.weight).to(y.dtype)


def with_first_norm(content: Any) -> Any:
    """A recorded config, at any depth, in which mixers of the first version say that their norm is over all
    channels: then they had no `norm_by_group`, which is recorded wherever it has an effect."""
    if isinstance(content, list):
        return [with_first_norm(each) for each in content]
    if not isinstance(content, dict):
        return content
    found = {key: with_first_norm(value) for key, value in content.items()}
    is_of_groups = found.get("kind") == "mamba2" and found.get("ngroups", 1) != 1
    return {"norm_by_group": False} | found if is_of_groups else found
