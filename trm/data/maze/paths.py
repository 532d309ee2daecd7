"""Shortest paths in mazes: lengths for a batch of mazes, and the path that is the label.

A row of a maze is a word of `size` bits, so that one operation shifts a whole row: words are (size, N), and
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

Cells = NDArray[np.intp]  # cell indices, row by row
Words = NDArray[Any]  # uint32, or uint64 for boards wider than 32 cells


def pack(cells: NDArray[np.bool_], size: int) -> Words:
    """Words from flags (cells, N)."""
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
    """Words of N mazes with one cell set in each, the one in `cells`."""
    flags = np.zeros((size * size, len(cells)), bool)
    flags[cells, np.arange(len(cells))] = True
    return pack(flags, size)


def spread(front: Words, unseen: Words) -> Words:
    """The unseen neighbours of `front`, which are removed from `unseen` in place."""
    one = front.dtype.type(1)
    reached = front << one
    reached |= front >> one
    reached[1:] |= front[:-1]
    reached[:-1] |= front[1:]
    reached &= unseen
    unseen ^= reached
    return reached


def lengths(is_open: NDArray[np.bool_], starts: Cells, goals: Cells, size: int) -> NDArray[np.int32]:
    """(N,) steps from start to goal through open cells, (N, cells); -1 if there is no path."""
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


def optimal_paths(boards: Boards, answers: Boards, size: int) -> NDArray[np.bool_]:
    """(N,) whether the answer is the maze with a shortest path from S to G marked, whichever it is.

    A path with as many marked cells as a shortest one is a shortest one, and has no stray cell.
    Boards are (N, cells) symbols; those of the answers may be anything.
    """
    agrees = ((answers == boards) | ((answers == PATH) & (boards == FREE))).all(axis=1)
    shortest, marked, cells = path_facts(boards, answers, size)
    return np.asarray(agrees & (shortest >= 0) & (marked >= 0) & (cells == shortest - 1))


def path_facts(
    boards: Boards, answers: Boards, size: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.intp]]:
    """Steps of a shortest path from S to G, steps through the answer's marked cells (each -1 if there is no
    path), and the number of cells that it marks with o: (N,) each, of boards (N, cells)."""
    start, goal = ((boards == symbol).argmax(axis=1) for symbol in (START, GOAL))
    shortest = lengths(boards != WALL, start, goal, size)
    marked = lengths((answers != WALL) & (answers != FREE), start, goal, size)
    return shortest, marked, (answers == PATH).sum(axis=1)


def answer(board: Boards, size: int) -> Boards:
    """The maze with its path marked: the shortest path that a breadth-first search from S finds if it visits
    neighbours in the order down, left, right, up. Reproduces every label of Maze-Hard.

    `board` is (cells,) symbols; G must be reachable.
    """
    width = size + 2  # with walls around the board every cell has four neighbours
    cells = np.pad(board.reshape(size, size), 1, constant_values=WALL).ravel().tolist()
    start, goal = cells.index(START), cells.index(GOAL)
    came_from = {start: start}
    queue = deque([start])
    while goal not in came_from:
        cell = queue.popleft()
        for neighbour in (cell + width, cell - 1, cell + 1, cell - width):
            if cells[neighbour] != WALL and neighbour not in came_from:
                came_from[neighbour] = cell
                queue.append(neighbour)
    cell = came_from[goal]
    while cell != start:
        cells[cell] = PATH
        cell = came_from[cell]
    return np.array(cells, np.uint8).reshape(width, width)[1:-1, 1:-1].ravel()
