"""Puzzles as they come from a file, and the rules that each must keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.data.base import DataError
from trm.data.sudoku.grid import Boards, is_solution, units
from trm.data.sudoku.solver import solve

CHECKED = 20_000  # puzzles of a split whose solutions are counted when it is drawn; `check` counts all


@dataclass(frozen=True)
class Puzzles:
    """N puzzles with their solutions; rows of one group are variants of one puzzle."""

    boards: Boards  # (N, n*n) digits, 0 blank
    solutions: Boards  # (N, n*n) digits
    ratings: NDArray[np.int32]  # (N,), -1 where unknown
    groups: NDArray[np.int64]  # (groups + 1,): group i is rows groups[i] to groups[i + 1]
    places: NDArray[np.int64] | None = None  # (N,) lines or rows of the file that they were read from, ...
    file: str = ""  # ... and what stands before these in messages, such as "train.csv:"

    def __len__(self) -> int:
        return len(self.boards)

    @classmethod
    def single(cls, boards: Boards, solutions: Boards, ratings: NDArray[np.int32]) -> Puzzles:
        """Each puzzle a group of its own."""
        return cls(boards, solutions, ratings, np.arange(len(boards) + 1))

    def place(self, row: int) -> str:
        """Where a row stands, for a message."""
        return f"{self.file}{row if self.places is None else self.places[row]}"

    def take_groups(self, which: NDArray[np.intp], first_only: bool = False) -> Puzzles:
        """The rows of some groups, or only each group's first row."""
        starts, sizes = self.groups[which], np.diff(self.groups)[which]
        if first_only:
            sizes = np.ones_like(sizes)
        edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.repeat(starts - edges[:-1], sizes) + np.arange(edges[-1])
        places = None if self.places is None else self.places[rows]
        return Puzzles(self.boards[rows], self.solutions[rows], self.ratings[rows], edges, places, self.file)

    def at_least(self, rating: int | None) -> Puzzles:
        """The groups whose first puzzle is at least this difficult."""
        if rating is None:
            return self
        return self.take_groups(np.flatnonzero(self.ratings[self.groups[:-1]] >= rating))


def check_rules(puzzles: Puzzles, size: int) -> None:
    """Refuse the first row whose answer is not valid or does not agree with the clues. Raises DataError."""
    wrong = ~is_solution(puzzles.solutions, size)
    if wrong.any():
        row = int(wrong.argmax())
        unit = _broken_unit(puzzles.solutions[row], size)
        raise DataError(
            f"{puzzles.place(row)}: the answer is no solved {size}x{size} board: {unit}, in "
            f"{as_text(puzzles.solutions[row])}: correct the answer or remove the row"
        )
    contradicted = (puzzles.boards > 0) & (puzzles.boards != puzzles.solutions)
    if contradicted.any():
        row, cell = divmod(int(contradicted.ravel().argmax()), size * size)
        raise DataError(
            f"{puzzles.place(row)}: the clue {puzzles.boards[row, cell]} at row {cell // size + 1}, column "
            f"{cell % size + 1} contradicts the answer, which has {puzzles.solutions[row, cell]} there, in "
            f"{as_text(puzzles.boards[row])}: correct one of them or remove the row"
        )


def check_unique(puzzles: Puzzles, size: int, most: int | None = CHECKED) -> None:
    """Refuse the first puzzle that has a second solution. Raises DataError.

    Of a group only the first row is looked at, since the others are symmetries of it; of more than `most`
    groups, a seeded sample of that many (None: all), since a hard puzzle takes a millisecond or two.
    """
    rows = puzzles.groups[:-1]
    if most is not None and most < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    counts, _ = solve(puzzles.boards[rows], size)
    if (counts > 1).any():
        row = int(rows[(counts > 1).argmax()])
        raise DataError(
            f"{puzzles.place(row)}: the puzzle {as_text(puzzles.boards[row])} has more than one solution, so "
            f"its answer cannot be inferred: add clues or remove the row"
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
