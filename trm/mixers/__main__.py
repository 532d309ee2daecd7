"""python -m trm.mixers: the table of mixers in Markdown, as docs/mixers.md has it."""

from __future__ import annotations

import json
import sys

from trm.grid import Grid, Layout
from trm.mixers import MIXERS, MixerConfig

# Of the published Sudoku-Extreme recipe, the defaults of `trm.config`.
HIDDEN_SIZE, LAYOUT = 512, Layout(16 + 81, Grid(9, 9, (3, 3)))
COLUMNS = ("kind", "what it is", "parameters", "FLOPs a token", "keys and their defaults")


def table() -> str:
    """A row a mixer; parameters and FLOPs are of one layer's mixer at the published size."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(_row(cls(kind=kind)) for kind, cls in MIXERS.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(config: MixerConfig) -> tuple[str, ...]:
    doc = sys.modules[type(config).__module__].__doc__ or ""
    fields = {name: getattr(config, name) for name in type(config).model_fields if name != "kind"}
    flops = config.flops(HIDDEN_SIZE, LAYOUT) / LAYOUT.seq_len
    return (
        f"`{config.kind}`",
        doc.partition("\n")[0],
        f"{config.num_params(HIDDEN_SIZE, LAYOUT):,}",
        f"{flops:,.0f}",
        ", ".join(f"`{name}: {json.dumps(value).strip(chr(34))}`" for name, value in fields.items()),
    )


if __name__ == "__main__":
    print(table(), end="")
