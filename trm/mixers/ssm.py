"""The common parts of the two state-space mixers: config fields, scan directions, initialisation.

Names here and in the papers (Mamba = arXiv 2312.00752, Mamba-2 = arXiv 2405.21060):

    D  hidden_size        E  d_inner = expand x D, the mixer's channels      N  d_state
    L  tokens             k  d_conv, the convolution's taps                  dt the step size, Delta

A state-space model scans the tokens in one direction, so that a token depends only on earlier ones.
`direction` sets the scans of each mixer of the block:

    forward             one scan, from the first token to the last
    alternating         one scan, backward in every second mixer, at no extra cost; with two or more mixers
                        in the block every token depends on all tokens
    bidirectional_tied  two scans, one each way, averaged; they share all parameters
    bidirectional       the same, but each scan has its own parameters for B, C and dt (rows of `in_proj` and
                        `conv1d` in Mamba-2, half of `x_proj` in Mamba), as in Hydra
    bidirectional_own   the scans share only the projections to x and z and from y, as in Vim
                        (arXiv 2401.09417)
    quasiseparable      Mamba-2 only, see `trm.mixers.mamba2.QuasiSeparable`

`backend` is what computes the scan. `auto` takes the first of these that there is: for Mamba on a GPU the
Triton kernel, on a CPU C, both with float32 step sizes; for all else, and everywhere for Mamba-2, PyTorch's
operations. `torch` is the latter alone. `mamba_ssm`, the official package's GPU kernels, is used only where
it is asked for. Neither those nor the Triton kernel has run on a GPU yet.

`order` is the order of the board's cells in a scan (`trm.mixers.order`). With several orders, each applies to
an equal share of the heads (Mamba-2) or channels (Mamba), in this sequence.

Deviations of both mixers from the official code (mamba_ssm): the projections to z, x, B, C and from y have
LeCun initialisation (std fan_in^-1/2), as all linear layers of TRM; the official code has that of nn.Linear,
0.577 times as large. Each of them gives 1.73 times as much for the same input; in Mamba, where x is projected
on to B, C and dt, both factors meet. Step sizes, A, D, `dt_proj` and the convolution start as there. Its
language model also divides `out_proj` by the root of the number of layers; here nothing does, see `out_gain`.
Two scans are averaged, where Vim and Hydra add them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Grid, Layout
from trm.mixers.base import KEY, MixerConfig
from trm.mixers.kernels.mamba_ssm import why_missing
from trm.mixers.order import Order, check_order, first_equal_order

Direction = Literal[
    "forward", "alternating", "bidirectional_tied", "bidirectional", "bidirectional_own", "quasiseparable"
]
DT_MIN, DT_MAX = 1e-3, 1e-1  # range of the initial step sizes (Mamba, section 3.6)


class SSMConfig(MixerConfig):
    added: ClassVar[tuple[str, ...]] = ()  # the first version had `out_gain` under another name
    d_state: int = Field(ge=1)
    d_conv: int = Field(4, ge=1)
    expand: float = Field(1.25, gt=0.0)  # 1.25: as many parameters as attention
    direction: Direction = "alternating"
    order: Order | Annotated[tuple[Order, ...], Field(min_length=1)] = "row"
    kernels: ClassVar[tuple[str, ...]]  # the modules that backend mamba_ssm needs
    backend: Literal["auto", "torch", "mamba_ssm"] = "auto"

    @property
    def needs_gpu(self) -> bool:
        return self.backend == "mamba_ssm"

    @property
    def selections(self) -> int:
        """Number of sets of the parameters that compute B, C and dt."""
        return 2 if self.direction in ("bidirectional", "bidirectional_own", "quasiseparable") else 1

    @property
    def dynamics(self) -> int:
        """Number of sets of A, D, the bias of dt, and the filters of x."""
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
        if self.backend == "mamba_ssm" and (reason := why_missing(self.kernels)) is not None:
            raise ValueError(
                f"{key}.backend is 'mamba_ssm', but its kernels cannot be imported here ({reason}): install "
                f"mamba_ssm with its CUDA kernels (it needs an NVIDIA GPU), or set backend to 'auto'"
            )

    def check_shares(self, number: int, what: str, key: str) -> None:
        """Raise ValueError if the orders cannot have equal shares of `number` heads or channels."""
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
        # Heads and channels are interchangeable: only the share of each order has an effect.
        names = [first_equal_order(order, layout) for order in self.orders]
        shares = {name: names.count(name) / len(names) for name in sorted(names)}
        return fields | {"order": shares, "d_inner": self.d_inner(hidden_size)}


def of_direction(stacked: Tensor, size: int, index: int) -> Tensor:
    """The `size` rows of scan `index` in a parameter with one set of rows per scan, or a shared one."""
    sets = stacked.unflatten(0, (-1, size))
    return sets[index % len(sets)]


def dt_bias_init(size: int) -> Tensor:
    """Biases whose softplus is log-uniform in [DT_MIN, DT_MAX] (Mamba, section 3.6), (size,)."""
    dt = torch.empty(size).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp()
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus


def undecayed(values: Tensor) -> nn.Parameter:
    """A parameter without weight decay.

    Decay would pull A and dt towards fixed time scales, not towards a simpler function; at TRM's rate (1.0)
    every memory would shorten to a token or two.
    """
    parameter = nn.Parameter(values)
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or in its own dtype if that is wider; step sizes and decays need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
