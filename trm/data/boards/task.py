"""PuzzleTask: a `PuzzleConfig` that can load its data."""

from __future__ import annotations

from trm.data.base import TaskData
from trm.data.boards.config import PuzzleConfig
from trm.data.boards.splits import load


class PuzzleTask(PuzzleConfig):
    """The base class of the configs of Sudoku and mazes."""

    def load(self) -> TaskData:
        return load(self)
