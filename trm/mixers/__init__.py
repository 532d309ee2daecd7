"""The token mixers by name. Adding one is a file with a Config and a Module, and a line here."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from trm.mixers.attention import AttentionConfig
from trm.mixers.base import MixerConfig
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config
from trm.mixers.mlp import MLPConfig

AnyMixerConfig = Annotated[
    AttentionConfig | MLPConfig | MambaConfig | Mamba2Config, Field(discriminator="kind")
]

MIXERS: dict[str, type[MixerConfig]] = {
    config.model_fields["kind"].default: config for config in get_args(get_args(AnyMixerConfig)[0])
}

__all__ = ["MIXERS", "AnyMixerConfig", "MixerConfig"]
