"""The mixers that stand by themselves, as the parts of a hybrid are given: by name, or as a mapping."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from trm.mixers.attention import AttentionConfig
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config
from trm.mixers.mlp import MLPConfig


def _named(given: Any) -> Any:
    return {"kind": given} if isinstance(given, str) else given


Named = BeforeValidator(_named)  # `mamba2` is short for `{kind: mamba2}`
Single = AttentionConfig | MLPConfig | MambaConfig | Mamba2Config
SinglePart = Annotated[Single, Field(discriminator="kind"), Named]
