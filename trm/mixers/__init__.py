"""The token mixers by name. Adding one is a file with a Config and a Module, and a line here."""

from __future__ import annotations

from typing import Annotated, Union

from pydantic import Field

from trm.mixers.attention import AttentionConfig
from trm.mixers.base import MixerConfig
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config
from trm.mixers.mlp import MLPConfig

MIXERS: dict[str, type[MixerConfig]] = {
    "attention": AttentionConfig,
    "mlp": MLPConfig,
    "mamba": MambaConfig,
    "mamba2": Mamba2Config,
}

AnyMixerConfig = Annotated[Union[tuple(MIXERS.values())], Field(discriminator="kind")]  # noqa: UP007

__all__ = ["MIXERS", "AnyMixerConfig", "MixerConfig"]
