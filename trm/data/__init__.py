"""The tasks by name. Adding one is a file with a Config, and its place in the union below."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from trm.data.base import TaskConfig
from trm.data.maze import MazeConfig
from trm.data.sudoku import SudokuConfig


def _with_task(data: Any) -> Any:
    """Data of no named task are Sudoku's."""
    return {"task": "sudoku", **data} if isinstance(data, dict) else data


AnyTaskConfig = Annotated[SudokuConfig | MazeConfig, Field(discriminator="task"), BeforeValidator(_with_task)]

__all__ = ["AnyTaskConfig", "TaskConfig"]
