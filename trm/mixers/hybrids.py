"""Arrangements of several mixers: side by side, one after the other, or another one from layer to layer.

parallel    side by side on the same input, as the attention and SSM heads of Hymba (arXiv 2411.13676):

                y = mean over the parts of beta_i * RMSNorm(mixer_i(x))

            beta_i is learned, one number a channel. Attention of fewer heads of their usual width
            (`num_heads: 4, head_dim: 64` in 512 channels) beside an SSM of a smaller `expand` keeps the
            parameters of either alone. Deviation: every part has an output projection of its own, before its
            norm; Hymba's parts share one, after the mean.
sublayers   one after the other in every layer, each with a residual connection and a norm of its own; one
            SwiGLU follows them. This is the layout of arXiv 2602.12078: mamba2, mamba2, attention, SwiGLU.
pattern     the first of `mixers` in the first layer, the second in the second, and so on, repeated.

A part is given as a mapping, or by its kind alone: `mamba2` is short for `{kind: mamba2}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import rms_norm, undecayed
from trm.mixers.base import ArrangementConfig, HybridConfig, MixerConfig, PlacedMixer, SublayerConfig
from trm.mixers.registry import AnySingle

AMPLIFYING = {"gated_deltanet", "mamba3"}  # the parts of which the gain of the loop was measured


def _named(given: Any) -> Any:
    return {"kind": given} if isinstance(given, str) else given


if TYPE_CHECKING:
    Part = MixerConfig
else:
    Part = Annotated[AnySingle, Field(discriminator="kind"), BeforeValidator(_named)]


class ParallelConfig(HybridConfig, SublayerConfig):
    kind: Literal["parallel"] = "parallel"
    mixers: Annotated[tuple[Part, ...], Field(min_length=2)]
    beta_init: float = Field(1.0, gt=0.0)  # what every beta starts at

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> Parallel:
        parts = [part.build(hidden_size, layout, at, rope_theta) for part, at in self._placed(scan_index)]
        return Parallel(parts, hidden_size, self.beta_init)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        return sum(part.num_params(hidden_size, layout) + hidden_size for part in self.mixers)

    def flops(self, hidden_size: int, layout: Layout) -> int:
        return sum(part.flops(hidden_size, layout) for part in self.mixers)

    def uncounted_flops(self, hidden_size: int, layout: Layout) -> int:
        return sum(part.uncounted_flops(hidden_size, layout) for part in self.mixers)

    @property
    def num_scans(self) -> int:
        return sum(part.num_scans for part in self.mixers)

    @property
    def alternates(self) -> bool:
        return any(part.alternates for part in self.mixers)

    @property
    def notes(self) -> list[str]:
        notes = [note for part in self.mixers for note in part.notes]
        if {part.kind for part in self.mixers} == AMPLIFYING and self.beta_init >= 1:
            notes.append(
                f"gated_deltanet beside mamba3 in a parallel mixer with beta_init {self.beta_init:g}: at 1 "
                f"the loop of a new network amplified a change 40 to 200 times, at 0.3 it shrank one to 0.3 "
                f"to 0.5 of itself (three seeds at 128 channels; docs/mixers.md, The gain of the loop)"
            )
        return notes

    def reversals(self, scan_index: int) -> tuple[bool, ...]:
        return tuple(reverse for part, at in self._placed(scan_index) for reverse in part.reversals(at))

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        parts = [part.effective_at(at, hidden_size, layout) for part, at in self._placed(scan_index)]
        parts.sort(key=lambda part: json.dumps(part, sort_keys=True))  # a mean has no order
        return {"kind": self.kind, "mixers": parts, "beta_init": self.beta_init}

    def _placed(self, scan_index: int) -> Iterator[tuple[MixerConfig, int]]:
        """The parts, each with the number of scans before it."""
        for part in self.mixers:
            yield part, scan_index
            scan_index += part.num_scans


class Parallel(nn.Module):
    """The mean of normed and scaled mixers, see the module's docstring."""

    def __init__(self, mixers: list[nn.Module], hidden_size: int, beta_init: float) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(mixers)
        self.betas = nn.ParameterList(undecayed(torch.full((hidden_size,), beta_init)) for _ in mixers)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        parts = [
            rms_norm(mixer(hidden_states)) * beta.to(hidden_states.dtype)
            for mixer, beta in zip(self.mixers, self.betas, strict=True)
        ]
        return torch.stack(parts).mean(0)


if TYPE_CHECKING:
    Sublayer = SublayerConfig
else:
    Sublayer = Annotated[AnySingle | ParallelConfig, Field(discriminator="kind"), BeforeValidator(_named)]


class SublayersConfig(HybridConfig):
    kind: Literal["sublayers"] = "sublayers"
    mixers: Annotated[tuple[Sublayer, ...], Field(min_length=1)]

    def sublayers(self, layer_idx: int) -> tuple[SublayerConfig, ...]:
        return self.mixers


if TYPE_CHECKING:
    LayerMixer = ArrangementConfig
else:
    LayerMixer = Annotated[
        AnySingle | ParallelConfig | SublayersConfig, Field(discriminator="kind"), BeforeValidator(_named)
    ]


class PatternConfig(HybridConfig):
    kind: Literal["pattern"] = "pattern"
    mixers: Annotated[tuple[LayerMixer, ...], Field(min_length=1)]

    def sublayers(self, layer_idx: int) -> tuple[SublayerConfig, ...]:
        return self.mixers[layer_idx % len(self.mixers)].sublayers(layer_idx)

    def layers(self, num_layers: int, key: str = "model.num_layers") -> list[list[PlacedMixer]]:
        period = len(self.mixers)
        if num_layers % period:
            divisors = [str(d) for d in range(1, num_layers + 1) if num_layers % d == 0]
            raise ValueError(
                f"model.mixer.mixers has {period} layers, a pattern that does not come out even in "
                f"{key}, {num_layers}: set it to a multiple of {period}, or give a list of "
                f"{' or '.join(divisors)}"
            )
        return super().layers(num_layers, key)
