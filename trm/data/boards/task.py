"""A task whose puzzles are boards: what `PuzzleConfig` says, loaded."""

from __future__ import annotations

from trm.data.base import TaskData
from trm.data.boards.config import PuzzleConfig
from trm.data.boards.splits import load


class PuzzleTask(PuzzleConfig):
    """The base class of Sudoku's and the mazes' config."""

    def load(self) -> TaskData:
        return load(self)
