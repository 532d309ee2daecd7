"""The token mixers by name: `MIXERS`, those that stand by themselves, and `AnyMixerConfig`, hybrids
included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from trm.mixers.base import ArrangementConfig, MixerConfig
from trm.mixers.hybrids import ParallelConfig, PatternConfig, SublayersConfig
from trm.mixers.registry import MIXERS, AnySingle


def _mapping(given: Any) -> Any:
    """Say how what stands in a hybrid's list, or the list itself, is given as the mixer of all layers."""
    if isinstance(given, str):
        raise ValueError(f"must be a mapping (given {given!r}): give {{kind: {given}}}")
    if isinstance(given, list):
        raise ValueError(
            f"must be a mapping (given {given!r}): give {{kind: pattern, mixers: [...]}}, a mixer a layer, "
            f"or kind sublayers or parallel, all of them in every layer"
        )
    return given


if TYPE_CHECKING:
    AnyMixerConfig = ArrangementConfig
else:
    AnyMixerConfig = Annotated[
        AnySingle | ParallelConfig | SublayersConfig | PatternConfig,
        Field(discriminator="kind"),
        BeforeValidator(_mapping),
    ]

__all__ = ["MIXERS", "AnyMixerConfig", "MixerConfig"]
