"""Generates puzzles from a seed: one solution each, solvable by naked and hidden singles, no class twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trm.data.base import DataError
from trm.data.boards.rules import Boards
from trm.data.sudoku.board import BOX_SHAPES, class_keys
from trm.data.sudoku.solver import solve, solved_by_singles


class Recipe(NamedTuple):
    """Numbers of clues of the embedded puzzles of one board size, and default numbers of puzzles."""

    clues: tuple[int, int]  # range of the uniformly drawn target; a puzzle has more if it needs them
    num_train: int
    num_val: int
    num_test: int


RECIPES = {
    4: Recipe((5, 8), 1200, 400, 400),  # 2,132 of the 2,223 classes with 5 to 8 clues are found
    6: Recipe((10, 16), 4000, 1000, 1000),
    9: Recipe((28, 40), 4000, 1000, 1000),
}

_BATCH = 2048


def generate(size: int, count: int, seed: int) -> tuple[Boards, Boards]:
    """Puzzles and their solutions, (count, n*n) each, of `count` different classes, in random order.

    A larger count of the same seed starts with the same puzzles. 4x4 has so few classes that most are used,
    and those with few clues are found first; `seed` therefore shuffles all of them, so that every split has
    the same distribution. Raises DataError if the board is too small for that many classes.
    """
    if size == 4:
        boards, solutions = _find(size, None, seed=0)
        order = np.random.default_rng([seed, size]).permutation(len(boards))[:count]
        boards, solutions = boards[order], solutions[order]
    else:
        boards, solutions = _find(size, count, seed)
    if len(boards) < count:
        raise DataError(
            f"data: {count} puzzles of {size}x{size} are required (num_train + num_val + num_test), but "
            f"only {len(boards)} of different classes were found: lower them, or choose another size"
        )
    return boards, solutions


def _find(size: int, count: int | None, seed: int) -> tuple[Boards, Boards]:
    """The first `count` puzzles found, or all (None); fewer if new classes have become rare."""
    rng = np.random.default_rng([seed, size])
    boards = np.empty((0, 2, size * size), np.uint8)
    keys = np.empty(0, np.uint64)
    while count is None or len(boards) < count:
        solutions = random_solutions(_BATCH, size, rng)
        puzzles = dig(solutions, size, rng)
        new = np.stack([puzzles, solutions], axis=1)[(puzzles > 0).sum(axis=1) <= RECIPES[size].clues[1]]
        found = len(boards)
        keys = np.concatenate([keys, class_keys(new[:, 0], new[:, 1], size)])
        boards = np.concatenate([boards, new])
        _, first = np.unique(keys, return_index=True)
        first.sort()  # in the order in which they were found
        boards, keys = boards[first], keys[first]
        if len(boards) - found < _BATCH // 100:
            break
    return boards[:count, 0], boards[:count, 1]


def random_solutions(count: int, size: int, rng: np.random.Generator) -> Boards:
    """At most `count` solved boards: random boxes on the diagonal, completed if that is possible."""
    box_rows, box_cols = BOX_SHAPES[size]
    boards = np.zeros((count, size, size), np.uint8)
    digits = np.tile(np.arange(1, size + 1, dtype=np.uint8), (count, 1))
    for i in range(min(size // box_rows, size // box_cols)):
        rows = slice(i * box_rows, (i + 1) * box_rows)
        cols = slice(i * box_cols, (i + 1) * box_cols)
        boards[:, rows, cols] = rng.permuted(digits, axis=1).reshape(count, box_rows, box_cols)
    counts, solutions = solve(boards.reshape(count, -1), size, limit=1)
    solutions = solutions[counts == 1]
    # The solver tries low digits first; a random renaming of the digits removes that bias.
    names = rng.permuted(np.tile(np.arange(1, size + 1, dtype=np.uint8), (len(solutions), 1)), axis=1)
    return np.take_along_axis(names, solutions.astype(np.intp) - 1, axis=1)


def dig(solutions: Boards, size: int, rng: np.random.Generator) -> Boards:
    """Puzzles (B, n*n): clues removed in random order as long as singles still solve the board."""
    low, high = RECIPES[size].clues
    goals = rng.integers(low, high, size=len(solutions), endpoint=True)
    order = rng.permuted(np.tile(np.arange(size * size), (len(solutions), 1)), axis=1)
    puzzles = solutions.copy()
    # Removing clues seldom fails while the board is nearly full: remove 2/5 of the cells at once.
    at_once = size * size * 2 // 5
    for cells in [order[:, :at_once], *np.split(order[:, at_once:], size * size - at_once, axis=1)]:
        trying = np.flatnonzero((puzzles > 0).sum(axis=1) > goals)
        attempt = puzzles[trying]
        np.put_along_axis(attempt, cells[trying], 0, axis=1)
        solved = solved_by_singles(attempt, size)
        puzzles[trying[solved]] = attempt[solved]
    return puzzles
