"""Mixers side by side on the same input, as the attention and SSM heads of Hymba (arXiv 2411.13676).

    y = mean over the parts of beta_i * RMSNorm(mixer_i(x))

beta_i is learned, one number a channel. Attention of fewer heads of their usual width (`num_heads: 4,
head_dim: 64` in 512 channels) beside an SSM of a smaller `expand` keeps the parameters of either alone.

Deviation: every part has an output projection of its own, before its norm; Hymba's have one in common, after
the mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import rms_norm
from trm.mixers.base import HybridConfig, MixerConfig
from trm.mixers.single import SinglePart
from trm.mixers.ssm import undecayed


class ParallelConfig(HybridConfig, MixerConfig):
    kind: Literal["parallel"] = "parallel"
    mixers: Annotated[tuple[SinglePart, ...], Field(min_length=2)]
    beta_init: float = Field(1.0, gt=0.0)  # what every beta starts at

    def build(self, hidden_size: int, layout: Layout, place: int, rope_theta: float | None) -> Parallel:
        parts = [part.build(hidden_size, layout, at, rope_theta) for part, at in self._placed(place)]
        return Parallel(parts, hidden_size, self.beta_init)

    def num_params(self, hidden_size: int, seq_len: int) -> int:
        return sum(part.num_params(hidden_size, seq_len) + hidden_size for part in self.mixers)

    def flops(self, hidden_size: int, seq_len: int) -> int:
        return sum(part.flops(hidden_size, seq_len) for part in self.mixers)

    @property
    def num_scans(self) -> int:
        return sum(part.num_scans for part in self.mixers)

    def reversals(self, place: int) -> tuple[bool, ...]:
        return tuple(reverse for part, at in self._placed(place) for reverse in part.reversals(at))

    def effective_at(self, place: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        parts = [part.effective_at(at, hidden_size, layout) for part, at in self._placed(place)]
        parts.sort(key=lambda part: json.dumps(part, sort_keys=True))  # a mean has no order
        return {"kind": self.kind, "mixers": parts, "beta_init": self.beta_init}

    def _placed(self, place: int) -> Iterator[tuple[MixerConfig, int]]:
        """The parts, each with the number of scans before it."""
        for part in self.mixers:
            yield part, place
            place += part.num_scans


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
