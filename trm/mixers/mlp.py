"""The MLP mixer of TRM (paper, section 4.5): a SwiGLU over the tokens, the same for every channel.

Weights start as in the reference implementation (`trm.layers.CastedLinear`); `out_gain`, which it lacks, is a
factor of `down_proj`'s.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from trm.grid import Layout
from trm.layers import SwiGLU, swiglu_width
from trm.mixers.base import MixerConfig


class MLPConfig(MixerConfig):
    kind: Literal["mlp"] = "mlp"
    expansion: float = Field(4.0, gt=0.0)  # of the number of tokens; the width is rounded up to 256s

    norm_axis: ClassVar[Literal["channel", "token"]] = "token"

    @property
    def saved_by_compiling(self) -> float:
        return 0.07

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> MLP:
        return MLP(layout.seq_len, self.expansion, self.out_gain)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        return 3 * layout.seq_len * swiglu_width(layout.seq_len, self.expansion)

    def flops(self, hidden_size: int, layout: Layout) -> int:
        return 2 * hidden_size * self.num_params(hidden_size, layout)

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["expansion"]
        return fields | {"swiglu_width": swiglu_width(layout.seq_len, self.expansion)}


class MLP(SwiGLU):
    """The SwiGLU of `trm.layers` on transposed states; it is built for one number of tokens, L."""

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return super().forward(hidden_states.transpose(1, 2)).transpose(1, 2)
