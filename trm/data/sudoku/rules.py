"""SudokuRules: Sudoku for the files, splits and commands that all board tasks share."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trm.data.base import DataError
from trm.data.boards.rules import Boards, Keys, Puzzles, Rules, span
from trm.data.sudoku.board import BOX_SHAPES, class_keys, is_solution, units
from trm.data.sudoku.solver import solve
from trm.grid import Grid


class SudokuRules(Rules):
    """Symbols are the digits, 0 a blank."""

    task: ClassVar[str] = "sudoku"
    title: ClassVar[str] = "Sudoku"
    claim: ClassVar[str] = "each with one solution"
    samples_answers: ClassVar[bool] = True
    aliases: ClassVar[dict[str, str]] = {"0": "."}

    @property
    def alphabet(self) -> str:
        return ".123456789"[: self.size + 1]

    @property
    def symbols(self) -> dict[str, range]:
        return {"question": range(self.size + 1), "answer": range(1, self.size + 1)}

    @property
    def explained(self) -> dict[str, str]:
        digits = f"1 to {self.size}"
        return {
            "question": f"{digits}, and . or 0 for a blank",
            "answer": digits,
            "id": "digit + 1, 1 for a blank input",
        }

    @property
    def grid(self) -> Grid:
        return Grid(self.size, self.size, BOX_SHAPES[self.size])

    def checked(self, puzzles: Puzzles) -> Puzzles:
        """Raise DataError at the first row whose answer is invalid or contradicts the clues."""
        size = self.size
        wrong = ~is_solution(puzzles.solutions, size)
        if wrong.any():
            row = int(wrong.argmax())
            unit = _broken_unit(puzzles.solutions[row], size)
            raise DataError(
                f"{puzzles.place(row)}: the answer is not a solved {size}x{size} board: {unit}, in "
                f"{self.text(puzzles.solutions[row])}: correct the answer or remove the row"
            )
        contradicted = (puzzles.boards > 0) & (puzzles.boards != puzzles.solutions)
        if contradicted.any():
            row, cell = divmod(int(contradicted.ravel().argmax()), size * size)
            raise DataError(
                f"{puzzles.place(row)}: the clue {puzzles.boards[row, cell]} at row {cell // size + 1}, "
                f"column {cell % size + 1} contradicts the answer, which has {puzzles.solutions[row, cell]} "
                f"there, in {self.text(puzzles.boards[row])}: correct one of them or remove the row"
            )
        return puzzles

    def check_answers(self, puzzles: Puzzles, most: int | None = None) -> None:
        """Raise DataError at the first puzzle that has a second solution.

        Checks only the first row of a group, since the others are symmetries of it. If there are more than
        `most` groups, checks a seeded sample of `most`, since a hard puzzle takes a millisecond or two.
        """
        rows = puzzles.groups[:-1]
        if most is not None and most < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
        counts, _ = solve(puzzles.boards[rows], self.size)
        if (counts > 1).any():
            row = int(rows[(counts > 1).argmax()])
            raise DataError(
                f"{puzzles.place(row)}: the puzzle {self.text(puzzles.boards[row])} has more than one "
                f"solution, so its answer cannot be inferred: add clues or remove the row"
            )

    def class_keys(self, puzzles: Boards, solutions: Boards) -> Keys:
        return class_keys(puzzles, solutions, self.size)

    def summary(self, puzzles: Puzzles) -> str:
        return f"clues {span((puzzles.boards > 0).sum(axis=1))}"

    def picture(self, board: Boards) -> str:
        """The board with lines between boxes; `.` is a blank."""
        box_rows, box_cols = BOX_SHAPES[self.size]
        rule = "+".join(["-" * (2 * box_cols + 1)] * (self.size // box_cols)).join("++")
        lines = []
        for number, row in enumerate(board.reshape(self.size, -1, box_cols)):
            if number % box_rows == 0:
                lines.append(rule)
            boxes = (" ".join(self.text(box)) for box in row)
            lines.append(" | ".join(boxes).join(("| ", " |")))
        return "\n".join([*lines, rule])


def _broken_unit(solution: Boards, size: int) -> str:
    for name, kind in zip(("row", "column", "box"), units(solution[None], size), strict=True):
        for number, cells in enumerate(kind[0], start=1):
            digits, counts = np.unique(cells, return_counts=True)
            if (counts > 1).any():
                return f"{name} {number} has {digits[counts > 1][0]} twice"
    return "a digit is missing"
