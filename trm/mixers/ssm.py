"""The common parts of the two state-space mixers: config fields, scan directions, initialisation.

Names here and in the papers (Mamba = arXiv 2312.00752, Mamba-2 = arXiv 2405.21060):

    D  hidden_size        E  d_inner = expand x D, the mixer's channels      N  d_state
    L  tokens             k  d_conv, the convolution's taps                  dt the step size, Delta

`direction` and `order` are those of all mixers that read tokens one after the other (`trm.mixers.scans`); a
reading is a scan, and with several orders each has an equal share of the heads (Mamba-2) or channels (Mamba).
Under `bidirectional` each scan has its own parameters for B, C and dt (rows of `in_proj` and `conv1d` in
Mamba-2, half of `x_proj` in Mamba), as in Hydra. There are two directions more:

    bidirectional_own   the scans share only the projections to x and z and from y, as in Vim
                        (arXiv 2401.09417)
    quasiseparable      Mamba-2 only, see `trm.mixers.mamba2.QuasiSeparable`

`backend` is what computes the scan. `auto` takes the first of these that there is: for Mamba on a GPU the
Triton kernel, on a CPU C, both with float32 step sizes; for all else, and everywhere for Mamba-2, PyTorch's
operations. `torch` is the latter alone. `mamba_ssm`, the official package's GPU kernels, is used only where
it is asked for. Neither those nor the Triton kernel has run on a GPU yet.

Deviations of both mixers from the official code (mamba_ssm): the projections to z, x, B, C and from y have
LeCun initialisation (std fan_in^-1/2), as all linear layers of TRM; the official code has that of nn.Linear,
0.577 times as large. Each of them gives 1.73 times as much for the same input; in Mamba, where x is projected
on to B, C and dt, both factors meet. Step sizes, A, D, `dt_proj` and the convolution start as there. Its
language model also divides `out_proj` by the root of the number of layers; here nothing does, see `out_gain`.
Two scans are averaged, where Vim and Hydra add them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from trm.grid import Layout
from trm.mixers.base import KEY
from trm.mixers.inner import InnerConfig
from trm.mixers.kernels.mamba_ssm import why_missing

Direction = Literal[
    "forward", "alternating", "bidirectional_tied", "bidirectional", "bidirectional_own", "quasiseparable"
]


class SSMConfig(InnerConfig):
    added: ClassVar[tuple[str, ...]] = ()  # the first version had `out_gain` under another name
    d_state: int = Field(ge=1)
    d_conv: int = Field(4, ge=1)
    expand: float = Field(1.25, gt=0.0)  # 1.25: as many parameters as attention
    direction: Direction = "alternating"  # type: ignore[assignment]  # the common ones, and its own
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

    def check(self, hidden_size: int, key: str = KEY) -> None:
        super().check(hidden_size, key)
        if self.backend == "mamba_ssm" and (reason := why_missing(self.kernels)) is not None:
            raise ValueError(
                f"{key}.backend is 'mamba_ssm', but its kernels cannot be imported here ({reason}): install "
                f"mamba_ssm with its CUDA kernels (it needs an NVIDIA GPU), or set backend to 'auto'"
            )

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["backend"]
        return fields


def of_direction(stacked: Tensor, size: int, index: int) -> Tensor:
    """The `size` rows of scan `index` in a parameter with one set of rows per scan, or a shared one."""
    sets = stacked.unflatten(0, (-1, size))
    return sets[index % len(sets)]
