"""The shape of the board that a sequence of tokens represents, for code that needs its rows and columns."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """rows x cols cells, one token each, row by row; `box` is the height and width of a box, if any."""

    rows: int
    cols: int
    box: tuple[int, int] | None = None


class Layout(NamedTuple):
    """A block's input: `seq_len` tokens, the puzzle embedding's slots and then the puzzle.

    If the task has a board, the last rows x cols tokens are its cells.
    """

    seq_len: int
    grid: Grid | None = None
