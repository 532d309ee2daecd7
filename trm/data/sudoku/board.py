"""The Sudoku board: its boxes, its rules, and its symmetry classes.

A board is n*n digits as uint8, row by row, 0 for a blank; functions take a batch (B, n*n). The symmetries are
the permutations of the digits, of the bands, of the rows in a band, of the stacks, of the columns in a stack,
and, if boxes are square, the transposition. Puzzles that a symmetry maps onto each other form a class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trm.data.boards.rules import Boards, Keys

BOX_SHAPES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # rows and columns of a box, by board size

_CHUNK = 1024  # boards in a chunk, so that the data of a round of class_keys fit in the CPU's cache


def units(boards: Boards, size: int) -> tuple[Boards, Boards, Boards]:
    """Rows, columns and boxes of a batch, each (B, n units, n cells)."""
    rows = boards.reshape(-1, size, size)
    box_rows, box_cols = BOX_SHAPES[size]
    boxes = boards.reshape(-1, size // box_rows, box_rows, size // box_cols, box_cols)
    return rows, rows.swapaxes(1, 2), boxes.swapaxes(2, 3).reshape(-1, size, size)


def is_solution(boards: Boards, size: int) -> NDArray[np.bool_]:
    """(B,): whether every row, column and box has every digit once."""
    valid = np.ones(len(boards), bool)
    for kind in units(boards, size):
        bits = np.bitwise_or.reduce(np.left_shift(1, kind, dtype=np.uint16), axis=2)
        valid &= (bits == 2 ** (size + 1) - 2).all(axis=1)
    return valid


def class_keys(puzzles: Boards, solutions: Boards, size: int) -> Keys:
    """(B,) keys that are equal for all puzzles of a class.

    A cell's colour is whether it has a clue, and is refined by the colours of its row, column, box, band,
    stack and digit (as in the Weisfeiler-Lehman test for graphs). Sums make the key independent of order. Two
    classes may share a key; a split by key is still correct, because it puts both in the same split.
    """
    chunks = range(0, len(puzzles), _CHUNK)
    keys = [_class_keys(puzzles[i : i + _CHUNK], solutions[i : i + _CHUNK], size) for i in chunks]
    return np.concatenate([np.empty(0, np.uint64), *keys])


def _class_keys(puzzles: Boards, solutions: Boards, size: int) -> Keys:
    box_rows, box_cols = BOX_SHAPES[size]
    bands, stacks = size // box_rows, size // box_cols
    digits = solutions.astype(np.intp) - 1
    by_digit = np.argsort(digits, axis=1, kind="stable")  # the n cells of digit 1, then those of digit 2, ...
    colours = (puzzles > 0).astype(np.uint64)
    for _ in range(3):
        mixed = _mix(colours)
        cells = mixed.reshape(-1, size, size)
        rows = _mix(cells.sum(axis=2)).reshape(-1, bands, box_rows)
        cols = _mix(cells.sum(axis=1)).reshape(-1, stacks, box_cols)
        rows = _mix(rows + 3 * rows.sum(axis=2, keepdims=True)).reshape(-1, size, 1)
        cols = _mix(cols + 3 * cols.sum(axis=2, keepdims=True)).reshape(-1, 1, size)
        boxes = _mix(cells.reshape(-1, bands, box_rows, stacks, box_cols).sum(axis=(2, 4)))
        boxes = boxes.repeat(box_rows, axis=1).repeat(box_cols, axis=2)
        same = _mix(np.take_along_axis(mixed, by_digit, axis=1).reshape(-1, size, size).sum(axis=2))
        same = np.take_along_axis(same, digits, axis=1)
        around = (rows + cols + 5 * boxes).reshape(
            len(puzzles), -1
        )  # a symmetric sum, as a transposition swaps rows and columns
        colours = mixed + around + 7 * same
    return _mix(_mix(colours).sum(axis=1))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash that is a bijection of the 64-bit integers (the finaliser of splitmix64)."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(29)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(32)
    return values
