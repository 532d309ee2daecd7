"""What the two state-space mixers share: their fields, reading directions, and how they start.

Names here and in the papers (Mamba = arXiv 2312.00752, Mamba-2 = arXiv 2405.21060):

    D  hidden_size        E  d_inner = expand x D, the mixer's channels      N  d_state
    L  tokens             k  d_conv, the convolution's taps                  dt the step size, Delta

A state-space model runs one way, so that a token sees only what stands before it. `direction` says how the
mixers read the tokens:

    forward             from first to last
    alternating         every second one of the block backwards, which costs nothing; two see everything
    bidirectional_tied  each both ways, averaged, all parameters in common
    bidirectional       the same, but what makes B, C and dt of the tokens is each reading's own (in Mamba-2
                        rows of `in_proj` and `conv1d`, in Mamba a half of `x_proj`), as in Hydra
    bidirectional_own   only the projections to x and z and from y are in common, as in Vim (arXiv 2401.09417)
    quasiseparable      of Mamba-2 alone, see `trm.mixers.mamba2.QuasiSeparable`

`order` says along which way through the board (`trm.mixers.order`); of several each takes an equal share of
the heads (Mamba-2) or channels (Mamba), one after the other.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Grid, Layout
from trm.mixers.base import KEY, MixerConfig
from trm.mixers.order import Order, check_order, first_equal_order

Direction = Literal[
    "forward", "alternating", "bidirectional_tied", "bidirectional", "bidirectional_own", "quasiseparable"
]
DT_MIN, DT_MAX = 1e-3, 1e-1  # step sizes at the start (Mamba, section 3.6)


class SSMConfig(MixerConfig):
    d_state: int = Field(ge=1)
    d_conv: int = Field(4, ge=1)
    expand: float = Field(1.25, gt=0.0)  # 1.25 gives as many parameters as attention has
    direction: Direction = "alternating"
    order: Order | Annotated[tuple[Order, ...], Field(min_length=1)] = "row"
    out_proj_gain: float = Field(1.0, gt=0.0)  # the output projection starts at this share of the usual scale
    # torch: PyTorch's operations; auto: the same, but on a CPU C for what is faster so; mamba_ssm: the fused
    # kernels of that package, on a GPU
    backend: Literal["auto", "torch", "mamba_ssm"] = "auto"

    @property
    def needs_gpu(self) -> bool:
        return self.backend == "mamba_ssm"

    @property
    def selections(self) -> int:
        """Sets of the parameters that make B, C and dt."""
        return 2 if self.direction in ("bidirectional", "bidirectional_own", "quasiseparable") else 1

    @property
    def dynamics(self) -> int:
        """Sets of those of the convolution of x, A, D and dt's bias."""
        return 2 if self.direction == "bidirectional_own" else 1

    @property
    def orders(self) -> tuple[Order, ...]:
        return (self.order,) if isinstance(self.order, str) else self.order

    def d_inner(self, hidden_size: int) -> int:
        return round(self.expand * hidden_size)

    def check(self, hidden_size: int, key: str = KEY) -> None:
        channels = self.expand * hidden_size
        if abs(channels - round(channels)) > 0.01 or round(channels) < 1:
            raise ValueError(
                f"{key}.expand x model.hidden_size must be a whole number of channels, but "
                f"{self.expand} x {hidden_size} = {channels:g}: give an expand such as "
                f"{max(1, round(channels)) / hidden_size:.6g} or another hidden_size"
            )
        if self.backend == "mamba_ssm" and importlib.util.find_spec("mamba_ssm") is None:
            raise ValueError(
                f"{key}.backend is 'mamba_ssm', but the package mamba_ssm is not installed here: "
                f"install it (it needs an NVIDIA GPU), or set backend to 'auto'"
            )

    def check_shares(self, number: int, what: str, key: str) -> None:
        """Raise ValueError where the orders cannot have equal shares of so many heads or channels."""
        if number % len(self.orders):
            raise ValueError(
                f"{key}.order has {len(self.orders)} entries, which do not divide the {number} {what}: give "
                f"fewer, or an expand that makes a multiple of {len(self.orders)}"
            )

    def check_grid(self, grid: Grid | None, key: str = KEY) -> None:
        for order in self.orders:
            check_order(order, grid, key)

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["expand"], fields["backend"]
        # Heads and channels have no order among themselves: only how many read which way is an effect.
        names = [first_equal_order(order, layout) for order in self.orders]
        shares = {name: names.count(name) / len(names) for name in sorted(names)}
        return fields | {"order": shares, "d_inner": self.d_inner(hidden_size)}


def of_direction(stacked: Tensor, size: int, index: int) -> Tensor:
    """The rows of reading `index` of a parameter that has `size` for each reading, or for all in common."""
    sets = stacked.unflatten(0, (-1, size))
    return sets[index % len(sets)]


def dt_bias_init(size: int) -> Tensor:
    """Biases whose softplus is log-uniform in [DT_MIN, DT_MAX] (Mamba, section 3.6), (size,)."""
    dt = torch.empty(size).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp()
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus


def undecayed(values: Tensor) -> nn.Parameter:
    """A parameter that weight decay leaves alone.

    Decay pulls A and dt towards fixed time scales, not towards a simpler function; at TRM's rate (1.0) it
    would shorten every memory to a token or two.
    """
    parameter = nn.Parameter(values)
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


def at_least_float32(x: Tensor) -> Tensor:
    """Step sizes and decays are computed in float32 where the activations are bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
