"""The tasks. Adding one is a file with a Config, and its place in the union below."""

from __future__ import annotations

from trm.data.base import TaskConfig
from trm.data.sudoku import SudokuConfig

AnyTaskConfig = SudokuConfig  # a union discriminated by `task` as soon as there are two

__all__ = ["AnyTaskConfig", "TaskConfig"]
