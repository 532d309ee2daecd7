"""Another mixer from layer to layer: the first of `mixers` in the first layer, and so on, over and over."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trm.mixers.base import HybridConfig, MixerConfig, Placed
from trm.mixers.parallel import ParallelConfig
from trm.mixers.single import Named, Single
from trm.mixers.sublayers import SublayersConfig

InLayer = Annotated[
    Single | ParallelConfig | SublayersConfig,
    Field(discriminator="kind"),
    Named,
]


class PatternConfig(HybridConfig):
    kind: Literal["pattern"] = "pattern"
    mixers: Annotated[tuple[InLayer, ...], Field(min_length=1)]

    def sublayers(self, layer_idx: int) -> tuple[MixerConfig, ...]:
        return self.mixers[layer_idx % len(self.mixers)].sublayers(layer_idx)

    def layers(self, num_layers: int) -> list[list[Placed]]:
        period = len(self.mixers)
        if num_layers % period:
            divisors = [str(d) for d in range(1, num_layers + 1) if num_layers % d == 0]
            raise ValueError(
                f"model.mixer.mixers has {period} layers, a pattern that does not come out even in "
                f"model.num_layers, {num_layers}: set num_layers to a multiple of {period}, or give a list "
                f"of {' or '.join(divisors)}"
            )
        return super().layers(num_layers)
