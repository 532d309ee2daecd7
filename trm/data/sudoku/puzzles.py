"""Puzzles as they come from a file, and the rules that each must keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.data.base import DataError
from trm.data.sudoku.grid import Boards, is_solution, units
from trm.data.sudoku.solver import solve

SAMPLED = 1000  # puzzles of a file whose solutions are counted when it is loaded; `check` counts all


@dataclass(frozen=True)
class Puzzles:
    """N puzzles with their solutions; rows of one group are variants of one puzzle."""

    boards: Boards  # (N, n*n) digits, 0 blank
    solutions: Boards  # (N, n*n) digits
    ratings: NDArray[np.int32]  # (N,), -1 where unknown
    groups: NDArray[np.int64]  # (groups + 1,): group i is rows groups[i] to groups[i + 1]

    def __len__(self) -> int:
        return len(self.boards)

    @classmethod
    def single(cls, boards: Boards, solutions: Boards, ratings: NDArray[np.int32]) -> Puzzles:
        """Each puzzle a group of its own."""
        return cls(boards, solutions, ratings, np.arange(len(boards) + 1))

    def take_groups(self, which: NDArray[np.intp], first_only: bool = False) -> Puzzles:
        """The rows of some groups, or only each group's first row."""
        starts, sizes = self.groups[which], np.diff(self.groups)[which]
        if first_only:
            sizes = np.ones_like(sizes)
        edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.repeat(starts - edges[:-1], sizes) + np.arange(edges[-1])
        return Puzzles(self.boards[rows], self.solutions[rows], self.ratings[rows], edges)

    def at_least(self, rating: int | None) -> Puzzles:
        """The groups whose first puzzle is at least this difficult."""
        if rating is None:
            return self
        return self.take_groups(np.flatnonzero(self.ratings[self.groups[:-1]] >= rating))


def check_rules(puzzles: Puzzles, size: int, where: Callable[[int], str], sample: int | None) -> None:
    """Refuse the first puzzle that breaks a rule; `where(row)` names its place. Raises DataError.

    Answers must be valid and agree with the clues. That no second solution exists is searched for on `sample`
    puzzles (the same ones each time), or on all when None.
    """
    wrong = ~is_solution(puzzles.solutions, size)
    if wrong.any():
        row = int(wrong.argmax())
        unit = _broken_unit(puzzles.solutions[row], size)
        raise DataError(
            f"{where(row)}: the answer is no solved {size}x{size} board: {unit}, in "
            f"{as_text(puzzles.solutions[row])}: correct the answer or remove the row"
        )
    contradicted = (puzzles.boards > 0) & (puzzles.boards != puzzles.solutions)
    if contradicted.any():
        row, cell = divmod(int(contradicted.ravel().argmax()), size * size)
        raise DataError(
            f"{where(row)}: the clue {puzzles.boards[row, cell]} at row {cell // size + 1}, column "
            f"{cell % size + 1} contradicts the answer, which has {puzzles.solutions[row, cell]} there, in "
            f"{as_text(puzzles.boards[row])}: correct one of them or remove the row"
        )
    rows = np.arange(len(puzzles))
    if sample is not None and sample < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(len(rows), sample, replace=False))
    counts, _ = solve(puzzles.boards[rows], size)
    if (counts > 1).any():
        row = int(rows[(counts > 1).argmax()])
        raise DataError(
            f"{where(row)}: the puzzle {as_text(puzzles.boards[row])} has more than one solution, so its "
            f"answer cannot be inferred: add clues or remove the row"
        )


def as_text(board: NDArray[Any]) -> str:
    """A board on one line, `.` for a blank."""
    return "".join(map(str, board.tolist())).replace("0", ".")


def _broken_unit(solution: Boards, size: int) -> str:
    for name, kind in zip(("row", "column", "box"), units(solution[None], size), strict=True):
        for number, cells in enumerate(kind[0], start=1):
            digits, counts = np.unique(cells, return_counts=True)
            if (counts > 1).any():
                return f"{name} {number} has {digits[counts > 1][0]} twice"
    return "a digit is missing"
