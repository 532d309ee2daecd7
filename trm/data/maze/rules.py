"""MazeRules: mazes for the files, splits and commands that all board tasks share."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trm.data.base import DataError
from trm.data.boards.rules import Boards, Keys, Puzzles, Rules, span
from trm.data.maze.generate import path_lengths
from trm.data.maze.paths import FREE, GOAL, PATH, START, WALL, path_facts
from trm.data.maze.symmetry import class_keys
from trm.grid import Grid

_SYMBOLS = "# SGo"


class MazeRules(Rules):
    """One S and one G on free cells; the answer marks a shortest path between them with o.

    Any shortest path is accepted: a maze of Maze-Hard has millions of them.
    """

    task: ClassVar[str] = "maze"
    title: ClassVar[str] = "maze"
    claim: ClassVar[str] = "each answer a shortest path"

    @property
    def alphabet(self) -> str:
        return _SYMBOLS

    @property
    def symbols(self) -> dict[str, range]:
        return {"question": range(PATH), "answer": range(PATH + 1)}

    @property
    def explained(self) -> dict[str, str]:
        question = "# (wall), a space (free), S (start) and G (goal)"
        return {
            "question": question,
            "answer": f"{question}, and o for the path",
            "id": "1 wall, 2 free, 3 start, 4 goal, 5 path",
        }

    @property
    def grid(self) -> Grid:
        return Grid(self.size, self.size)

    def checked(self, puzzles: Puzzles) -> Puzzles:
        """The puzzles, with the path's length as the rating of those without one. Raises DataError."""
        self._check_ends(puzzles)
        self._check_agreement(puzzles)
        self._check_paths(puzzles)
        ratings = np.where(puzzles.ratings < 0, path_lengths(puzzles.solutions), puzzles.ratings)
        return Puzzles(**{**vars(puzzles), "ratings": ratings.astype(np.int32)})

    def _check_ends(self, puzzles: Puzzles) -> None:
        for symbol in (START, GOAL):
            counts = (puzzles.boards == symbol).sum(axis=1)
            if (counts != 1).any():
                row = int((counts != 1).argmax())
                raise DataError(
                    f"{puzzles.place(row)}: the question has {counts[row] or 'no'} {_SYMBOLS[symbol]}, but a "
                    f"maze has one: correct or remove the row"
                )

    def _check_agreement(self, puzzles: Puzzles) -> None:
        is_path = (puzzles.solutions == PATH) & (puzzles.boards == FREE)
        differs = (puzzles.solutions != puzzles.boards) & ~is_path
        if differs.any():
            row, cell = divmod(int(differs.ravel().argmax()), self.cells)
            asked, answered = (_SYMBOLS[x[row, cell]] for x in (puzzles.boards, puzzles.solutions))
            raise DataError(
                f"{puzzles.place(row)}: the answer has {answered!r} at row {cell // self.size + 1}, column "
                f"{cell % self.size + 1}, where the question has {asked!r}; an answer is the question with o "
                f"on the free cells of the path: correct one of them or remove the row"
            )

    def _check_paths(self, puzzles: Puzzles) -> None:
        """Raise DataError unless the marked cells are a path, with the number of cells of a shortest one."""
        shortest, marked, cells = path_facts(puzzles.boards, puzzles.solutions, self.size)
        wrong = (shortest < 0) | (marked < 0) | (cells != shortest - 1)
        if not wrong.any():
            return
        row = int(wrong.argmax())
        if shortest[row] < 0:
            problem = "no path leads from S to G: correct or remove the row"
        elif marked[row] < 0:
            problem = "the o's of the answer are not a path from S to G: correct the answer or remove the row"
        else:
            problem = (
                f"the answer marks {cells[row]} cells with o, but a shortest path from S to G has "
                f"{shortest[row] - 1} between them: correct the answer or remove the row"
            )
        raise DataError(f"{puzzles.place(row)}: {problem}")

    def class_keys(self, puzzles: Boards, solutions: Boards) -> Keys:
        return class_keys(puzzles, self.size)

    def summary(self, puzzles: Puzzles) -> str:
        return f"walls (%) {span((100 * (puzzles.boards == WALL).mean(axis=1)).round())}"

    def picture(self, board: Boards) -> str:
        """The maze in a frame, which is not part of it."""
        text, rule = self.text(board), f"+{'-' * self.size}+"
        rows = [f"|{text[i : i + self.size]}|" for i in range(0, self.cells, self.size)]
        return "\n".join([rule, *rows, rule])
