"""Puzzles from a seed alone: one solution each, solved by naked and hidden singles, no class twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trm.data.base import DataError
from trm.data.boards.rules import Boards
from trm.data.sudoku.board import BOX_SHAPES, class_keys
from trm.data.sudoku.solver import solve, solved_by_singles


class Recipe(NamedTuple):
    """What the embedded puzzles of one board size look like, and how many there are by default."""

    clues: tuple[int, int]  # fewest and most; the goal is drawn uniformly, and missed where a clue is needed
    num_train: int
    num_val: int
    num_test: int


RECIPES = {
    4: Recipe((5, 8), 1200, 400, 400),  # of 2,223 classes of 5 to 8 clues, 2,132 are found
    6: Recipe((10, 16), 4000, 1000, 1000),
    9: Recipe((28, 40), 4000, 1000, 1000),
}

_BATCH = 2048


def generate(size: int, count: int, seed: int) -> tuple[Boards, Boards]:
    """Puzzles and their solutions, (count, n*n) each, of `count` different classes, in random order.

    More puzzles of a seed begin with the same ones. 4x4 has so few classes that most are used, and the ones
    of few clues turn up first: there `seed` shuffles all that can be found, so that any cut is alike.
    Raises DataError when the board is too small for that many classes.
    """
    if size == 4:
        boards, solutions = _find(size, None, seed=0)
        order = np.random.default_rng([seed, size]).permutation(len(boards))[:count]
        boards, solutions = boards[order], solutions[order]
    else:
        boards, solutions = _find(size, count, seed)
    if len(boards) < count:
        raise DataError(
            f"data: {count} puzzles of {size}x{size} are asked for (num_train + num_val + num_test), but "
            f"only {len(boards)} of different classes were found: ask for fewer, or take another size"
        )
    return boards, solutions


def _find(size: int, count: int | None, seed: int) -> tuple[Boards, Boards]:
    """The first `count` to be found, or (None) all; fewer where hardly a new class turns up any more."""
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
    """At most `count` solved boards: random boxes on the diagonal, and a completion where there is one."""
    box_rows, box_cols = BOX_SHAPES[size]
    boards = np.zeros((count, size, size), np.uint8)
    digits = np.tile(np.arange(1, size + 1, dtype=np.uint8), (count, 1))
    for i in range(min(size // box_rows, size // box_cols)):
        rows = slice(i * box_rows, (i + 1) * box_rows)
        cols = slice(i * box_cols, (i + 1) * box_cols)
        boards[:, rows, cols] = rng.permuted(digits, axis=1).reshape(count, box_rows, box_cols)
    counts, solutions = solve(boards.reshape(count, -1), size, limit=1)
    solutions = solutions[counts == 1]
    # The solver guesses low digits first; a random renaming takes that pattern away.
    names = rng.permuted(np.tile(np.arange(1, size + 1, dtype=np.uint8), (len(solutions), 1)), axis=1)
    return np.take_along_axis(names, solutions.astype(np.intp) - 1, axis=1)


def dig(solutions: Boards, size: int, rng: np.random.Generator) -> Boards:
    """Puzzles (B, n*n): clues taken away in random order while singles still solve the rest."""
    low, high = RECIPES[size].clues
    goals = rng.integers(low, high, size=len(solutions), endpoint=True)
    order = rng.permuted(np.tile(np.arange(size * size), (len(solutions), 1)), axis=1)
    puzzles = solutions.copy()
    # Few digs fail while the board is nearly full: take as many at once as leaves 3/5 of the cells.
    at_once = size * size * 2 // 5
    for cells in [order[:, :at_once], *np.split(order[:, at_once:], size * size - at_once, axis=1)]:
        trying = np.flatnonzero((puzzles > 0).sum(axis=1) > goals)
        attempt = puzzles[trying]
        np.put_along_axis(attempt, cells[trying], 0, axis=1)
        solved = solved_by_singles(attempt, size)
        puzzles[trying[solved]] = attempt[solved]
    return puzzles
