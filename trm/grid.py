"""The board behind a row of tokens, for what depends on which tokens are neighbours."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """rows x cols cells, token by token row after row; `box` is the rows and columns of a box, if any."""

    rows: int
    cols: int
    box: tuple[int, int] | None = None


class Layout(NamedTuple):
    """The tokens that a block sees: the puzzle embedding's slots, then the puzzle, `seq_len` in all.

    Of a task that is a board the last rows x cols tokens are its cells.
    """

    seq_len: int
    grid: Grid | None = None
