"""The board behind a row of tokens, for what depends on which tokens are neighbours."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """rows x cols cells, token by token row after row; `box` is the rows and columns of a box, if any."""

    rows: int
    cols: int
    box: tuple[int, int] | None = None
