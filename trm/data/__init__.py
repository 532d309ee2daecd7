"""The tasks by name. Adding one is a file with a Config, and a line here."""

from __future__ import annotations

from trm.data.base import TaskConfig
from trm.data.sudoku import SudokuConfig

TASKS: dict[str, type[TaskConfig]] = {"sudoku": SudokuConfig}

AnyTaskConfig = SudokuConfig  # a union discriminated by `task` as soon as there are two

__all__ = ["TASKS", "AnyTaskConfig", "TaskConfig"]
