"""The token mixers by name. Adding one is a file with a Config and a Module, and its place in the unions."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from trm.mixers.base import MixerConfig
from trm.mixers.parallel import ParallelConfig
from trm.mixers.pattern import PatternConfig
from trm.mixers.single import Single
from trm.mixers.sublayers import SublayersConfig


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


AnyMixerConfig = Annotated[
    Single | ParallelConfig | SublayersConfig | PatternConfig,
    Field(discriminator="kind"),
    BeforeValidator(_mapping),
]

# Those that stand by themselves; the others are made of them.
MIXERS: dict[str, type[MixerConfig]] = {
    config.model_fields["kind"].default: config for config in get_args(Single)
}

__all__ = ["MIXERS", "AnyMixerConfig", "MixerConfig"]
