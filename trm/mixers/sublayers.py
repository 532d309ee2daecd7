"""Several mixers in every layer, one after the other, each with a residual connection and a norm of its own.

One SwiGLU follows them. This is the layout of arXiv 2602.12078: mamba2, mamba2, attention, SwiGLU.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trm.mixers.base import HybridConfig, MixerConfig
from trm.mixers.parallel import ParallelConfig
from trm.mixers.single import Named, Single

Sublayer = Annotated[
    Single | ParallelConfig,
    Field(discriminator="kind"),
    Named,
]


class SublayersConfig(HybridConfig):
    kind: Literal["sublayers"] = "sublayers"
    mixers: Annotated[tuple[Sublayer, ...], Field(min_length=1)]

    def sublayers(self, layer_idx: int) -> tuple[MixerConfig, ...]:
        return self.mixers
