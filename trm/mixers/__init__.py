"""The token mixers by name. Adding one is a file with a Config and a Module, and its place in the unions."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from trm.mixers.base import MixerConfig
from trm.mixers.parallel import ParallelConfig
from trm.mixers.pattern import PatternConfig
from trm.mixers.single import Single
from trm.mixers.sublayers import SublayersConfig

AnyMixerConfig = Annotated[
    Single | ParallelConfig | SublayersConfig | PatternConfig,
    Field(discriminator="kind"),
]

# Those that stand by themselves; the others are made of them.
MIXERS: dict[str, type[MixerConfig]] = {
    config.model_fields["kind"].default: config for config in get_args(Single)
}

__all__ = ["MIXERS", "AnyMixerConfig", "MixerConfig"]
