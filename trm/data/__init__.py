"""The tasks by name. Adding one is a file with a Config, and its place in the union below."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from trm.data.base import TaskConfig
from trm.data.maze import MazeConfig
from trm.data.sudoku import SudokuConfig


def _with_task(data: Any) -> Any:
    """Data of no named task are Sudoku's."""
    return {"task": "sudoku", **data} if isinstance(data, dict) else data


AnyTaskConfig = Annotated[SudokuConfig | MazeConfig, Field(discriminator="task"), BeforeValidator(_with_task)]

TASKS: dict[str, type[TaskConfig]] = {
    config.model_fields["task"].default: config for config in get_args(get_args(AnyTaskConfig)[0])
}

__all__ = ["TASKS", "AnyTaskConfig", "TaskConfig"]
