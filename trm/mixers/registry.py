"""The table of mixers. Adding one is a file beside this one and its name here; see docs/extending.md.

The file NAME.py holds one MixerConfig whose `kind` is NAME. The config's schema, the messages, the docs'
table, the benchmarks and the tests take it from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from trm.mixers.base import MixerConfig
from trm.settings.registered import configs_in

NAMES = (
    "attention",
    "mlp",
    "mamba",
    "mamba2",
    "mamba3",
    "mlstm",
    "rwkv7",
    "gated_deltanet",
    "kda",
)


MIXERS = configs_in("trm.mixers", NAMES, MixerConfig, "kind")  # type: ignore[type-abstract]

if TYPE_CHECKING:
    AnySingle = MixerConfig
else:
    AnySingle = Union[tuple(MIXERS.values())]  # noqa: UP007  made from a table
