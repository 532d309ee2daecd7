"""The token mixers by name. Adding one is a file with a Config and a Module, and its place in the unions."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from trm.mixers.base import ArrangementConfig, MixerConfig
from trm.mixers.parallel import ParallelConfig
from trm.mixers.pattern import PatternConfig
from trm.mixers.single import Single
from trm.mixers.sublayers import SublayersConfig

AnyMixerConfig = Annotated[
    Single | ParallelConfig | SublayersConfig | PatternConfig,
    Field(discriminator="kind"),
]


def _by_kind(configs: tuple[type[ArrangementConfig], ...]) -> dict[str, type[ArrangementConfig]]:
    return {config.model_fields["kind"].default: config for config in configs}


MIXERS = _by_kind(get_args(Single))  # that stand by themselves
HYBRIDS = _by_kind((ParallelConfig, SublayersConfig, PatternConfig))  # that are made of others

__all__ = ["HYBRIDS", "MIXERS", "AnyMixerConfig", "ArrangementConfig", "MixerConfig"]
