"""Hydra's quasi-separable mixer (Hwang et al., arXiv 2407.09941), `direction: quasiseparable` of mamba2.

The matrix that mixes the tokens of a head is one with a strictly lower and a strictly upper part of N states
each, and a diagonal of its own:

    y = shift(ssd(x)) + flip(shift(ssd(flip(x)))) + (D + fc_D x) x

`shift` hands each token the output of the one before it, and the first token nothing: y_t has C_{t-1} in it.
Both readings share A, D and dt's bias; each has its own B, C and dt. x, B and C are convolved once, centred.

Deviations, so that a sweep over `direction` changes the matrix alone: A starts as in Mamba-2, not at 1; the
gate multiplies before the norm, as in Mamba-2, not after it; `d_conv` is 4 by default, not 7, and where it is
even the convolution reaches one token further back than ahead.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trm.grid import Layout
from trm.layers import CastedLinear
from trm.mixers.mamba2 import Mamba2, Mamba2Config
from trm.mixers.order import join


class QuasiSeparable(Mamba2):
    """out_proj(RMSNorm(y * silu(z))) with the y above."""

    def __init__(self, config: Mamba2Config, hidden_size: int, layout: Layout, place: int) -> None:
        super().__init__(config, hidden_size, layout, place)
        self.fc_D = CastedLinear(self.inner, self.heads)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        z, x, own = self._project(hidden_states)
        x = self._convolve_x(x)
        forward, backward = (self._read(x, *own[i], i) for i in range(2))
        diagonal = self.fc_D(x) + self.D.to(x.dtype)
        y = forward + backward + diagonal.repeat_interleave(self.config.headdim, dim=-1) * x
        return self.out_proj(self.norm(y, z))

    def _convolve_x(self, x: Tensor) -> Tensor:
        groups = len(self.paths)
        parts = zip(self.paths, x.chunk(groups, -1), range(groups), strict=True)
        return join(
            [path(self._centred, x_, start=self._first_filter(0, group)) for path, x_, group in parts]
        )

    def _centred(self, x: Float[Tensor, "B L E"], start: int) -> Float[Tensor, "B L E"]:
        ahead = (self.config.d_conv - 1) // 2
        return self.conv1d(F.pad(x, (0, 0, 0, ahead)), start)[:, ahead:]

    def _mix(self, x: Tensor, BC: Tensor, dt: Tensor, index: int, group: int) -> Tensor:
        """The strictly triangular part of a group of heads, on an x that is convolved already."""
        flipped = self.reversals[index]
        BC = BC.flip(1) if flipped else BC
        BC = self._centred(BC, self._first_filter_of_BC(index))
        BC = BC.flip(1) if flipped else BC
        return F.pad(self._ssd(x, BC, dt, index, group), (0, 0, 1, -1))
