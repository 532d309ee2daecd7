"""Shortest paths in mazes: the lengths of many at once, and the one that is the answer.

A row of a maze is a word of `size` bits, so that one operation moves a whole row: words are (size, N), and
bit c of [r, i] is row r and column c of maze i.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.data.boards.rules import Boards

WALL, FREE, START, GOAL, PATH = range(5)  # the symbols of a cell
MAX_SIZE = 64  # bits in a word

Cells = NDArray[np.intp]  # numbers of cells, row after row
Words = NDArray[Any]  # uint32 or, of boards wider than that, uint64


def pack(cells: NDArray[np.bool_], size: int) -> Words:
    """(cells, N) flags as words."""
    kind = np.dtype(np.uint32 if size <= 32 else np.uint64)
    by_column = cells.reshape(size, size, -1)
    words = np.zeros((size, by_column.shape[2]), kind)
    for column in range(size):
        words |= by_column[:, column].astype(kind) << kind.type(column)
    return words


def unpack(words: Words, size: int) -> NDArray[np.bool_]:
    """The inverse of `pack`."""
    columns = np.arange(size, dtype=words.dtype)[:, None]
    flags = (words[:, None] >> columns) & words.dtype.type(1)
    return flags.astype(bool).reshape(size * size, -1)


def one_cell(cells: Cells, size: int) -> Words:
    """Words of N mazes in which this one cell of each is set."""
    flags = np.zeros((size * size, len(cells)), bool)
    flags[cells, np.arange(len(cells))] = True
    return pack(flags, size)


def spread(front: Words, unseen: Words) -> Words:
    """The unseen neighbours of `front`; they are taken out of `unseen`."""
    one = front.dtype.type(1)
    reached = front << one
    reached |= front >> one
    reached[1:] |= front[:-1]
    reached[:-1] |= front[1:]
    reached &= unseen
    unseen ^= reached
    return reached


def lengths(is_open: NDArray[np.bool_], starts: Cells, goals: Cells, size: int) -> NDArray[np.int32]:
    """(N,) steps from start to goal through the open cells of (N, cells); -1 where there is no way."""
    goal = one_cell(goals, size)
    front = one_cell(starts, size)
    unseen = pack(is_open.T, size) & ~front
    found = np.full(len(starts), -1, np.int32)
    step = 0
    while front.any():
        step += 1
        front = spread(front, unseen)
        found[(front & goal).any(axis=0)] = step
    return found


def answer(board: Boards, size: int) -> Boards:
    """The maze with its path marked: of the shortest ones the one that a breadth-first search from S finds
    which looks down, left, right, up. It reproduces every label of Maze-Hard.

    `board` is (cells,) symbols, and G can be reached.
    """
    width = size + 2  # with walls around it no neighbour is off the board
    cells = np.pad(board.reshape(size, size), 1, constant_values=WALL).ravel().tolist()
    start, goal = cells.index(START), cells.index(GOAL)
    came_from = {start: start}
    queue = deque([start])
    while goal not in came_from:
        here = queue.popleft()
        for there in (here + width, here - 1, here + 1, here - width):
            if cells[there] != WALL and there not in came_from:
                came_from[there] = here
                queue.append(there)
    here = came_from[goal]
    while here != start:
        cells[here] = PATH
        here = came_from[here]
    return np.array(cells, np.uint8).reshape(width, width)[1:-1, 1:-1].ravel()
