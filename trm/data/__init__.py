"""The tasks by name. Adding one is a folder beside this file and its name here; see docs/extending.md.

The package NAME offers one TaskConfig whose `task` is NAME.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Field

from trm.data.base import TaskConfig
from trm.settings.registered import configs_in

NAMES = (
    "sudoku",
    "maze",
)


def _with_task(data: Any) -> Any:
    """Data of no named task are Sudoku's."""
    return {"task": "sudoku", **data} if isinstance(data, dict) else data


TASKS = configs_in("trm.data", NAMES, TaskConfig, "task")  # type: ignore[type-abstract]

if TYPE_CHECKING:
    AnyTaskConfig = TaskConfig
else:
    AnyTaskConfig = Annotated[
        Union[tuple(TASKS.values())],  # noqa: UP007  made from a table
        Field(discriminator="task"),
        BeforeValidator(_with_task),
    ]

__all__ = ["TASKS", "AnyTaskConfig", "TaskConfig"]
