"""Generates mazes like those of Maze-Hard from a seed: random walls, and a goal far from the start.

Maze-Hard follows Lehnert et al. (arXiv 2402.14083): random walls, whose share is uniform from 30 to 50%,
random start and goal, kept if the shortest path is long enough; at 30x30 one draw in 54,000 is kept. Here one
search from the start finds all goals that are far enough, and one of them is drawn. The maze is kept with
probability min(1, far goals / size), which almost restores the weight of mazes with many far goals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trm.data.base import DataError
from trm.data.boards.rules import Boards, Keys, Puzzles
from trm.data.maze.paths import FREE, GOAL, PATH, START, WALL, answer, one_cell, pack, spread, unpack
from trm.data.maze.symmetry import class_keys

WALL_SHARE = (0.3, 0.5)

_BATCH = 1024  # mazes at a time, so that the data of a search step fit in the CPU's cache
_MAX_DRAWS = 2**20  # draws without a new maze before generation stops: about six seconds at 30x30


def default_length(size: int) -> int:
    """Default for the fewest steps of a path: 109 at 30x30, as in Maze-Hard; quickly found at any size."""
    return 4 * size - 11


def generate(size: int, count: int, seed: int, min_length: int) -> Puzzles:
    """`count` mazes of different classes; the rating is the path's length.

    A larger count of the same seed starts with the same mazes. Raises DataError if too few of at least
    `min_length` are found.
    """
    rng = np.random.default_rng([seed, size, min_length])
    boards = np.empty((0, size * size), np.uint8)
    keys: Keys = np.empty(0, np.uint64)
    draws_without_new = 0
    while len(boards) < count and draws_without_new < _MAX_DRAWS:
        found = list(_far_apart(size, min_length, rng))
        draws_without_new += _BATCH
        if not found:
            continue
        before = len(boards)
        boards = np.concatenate([boards, found])
        keys = np.concatenate([keys, class_keys(np.stack(found), size)])
        first = np.sort(np.unique(keys, return_index=True)[1])  # in the order in which they were found
        boards, keys = boards[first], keys[first]
        if len(boards) > before:
            draws_without_new = 0
    if len(boards) < count:
        raise DataError(
            f"data: {count} mazes of {size}x{size} with a path of at least {min_length} steps (min_rating) "
            f"are required (num_train + num_val + num_test), but only {len(boards)} of different classes "
            f"were found, and {_MAX_DRAWS:,} more draws gave no other: lower min_rating (default: "
            f"{default_length(size)}), lower the numbers, or choose another size"
        )
    boards = boards[:count]
    answers = np.stack([answer(board, size) for board in boards])
    return Puzzles.single(boards, answers, path_lengths(answers))


def path_lengths(answers: Boards) -> NDArray[np.int32]:
    """(N,) steps from S to G along the marked path."""
    return (answers == PATH).sum(axis=1, dtype=np.int32) + np.int32(1)


def _far_apart(size: int, min_length: int, rng: np.random.Generator) -> Iterator[Boards]:
    """From _BATCH random mazes, those with a goal at least `min_length` steps away, (cells,) each."""
    walls = (rng.uniform(*WALL_SHARE, _BATCH) * 2**16).astype(np.uint16)
    is_free = rng.integers(0, 2**16, (size * size, _BATCH), dtype=np.uint16) >= walls
    starts = rng.integers(0, size * size, _BATCH)
    mazes = np.flatnonzero(is_free[starts, np.arange(_BATCH)])  # indices of the mazes that are still searched
    front = one_cell(starts[mazes], size)
    unseen = pack(is_free[:, mazes], size) & ~front
    for step in range(1, min_length):
        front = spread(front, unseen)
        if step % 4 == 0:
            goes_on = front.any(axis=0)
            mazes, front, unseen = mazes[goes_on], front[:, goes_on], unseen[:, goes_on]
            if not len(mazes):
                return
    far = np.zeros_like(front)
    while front.any():
        front = spread(front, unseen)
        far |= front
    goals = unpack(far, size)
    kept = rng.random(len(mazes)) < goals.sum(axis=0) / size
    for maze, reachable in zip(mazes[kept], goals.T[kept], strict=True):
        board = np.where(is_free[:, maze], FREE, WALL).astype(np.uint8)
        board[starts[maze]] = START
        board[rng.choice(np.flatnonzero(reachable))] = GOAL
        yield board
