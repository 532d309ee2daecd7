"""MazeConfig: where the mazes come from, how they are split, and how they are augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from trm.data.base import Augment
from trm.data.boards.rules import Puzzles
from trm.data.boards.task import PuzzleTask
from trm.data.maze.generate import default_length, generate
from trm.data.maze.paths import MAX_SIZE, optimal_paths
from trm.data.maze.rules import MazeRules

if TYPE_CHECKING:
    from torch import Tensor


class MazeConfig(PuzzleTask):
    """`data: {task: maze, size: 10}` needs no file and no network.

    Sources: `generated`, mazes like those of Maze-Hard in any size; and those of all tasks. The rating is the
    number of steps from S to G. The label is one of many shortest paths; exact accuracy requires it, and
    `optimal_path_accuracy` counts every shortest path.
    """

    task: Literal["maze"] = "maze"
    source: Literal["generated", "csv", "hub", "npy"] = "generated"
    size: int = Field(30, ge=4, le=MAX_SIZE)
    # The fewest steps of a maze's path; default for generated mazes: 4 x size - 11 (109 at size 30).
    min_rating: int | None = Field(None, ge=1)
    # As in PuzzleConfig, but none by default, as in the reference: of the seven images of a label at 30x30,
    # one equals the label of the mapped maze nine times in ten, and the other six never do.
    num_aug: int | None = Field(0, ge=0)

    generated_sources: ClassVar[tuple[str, ...]] = ("generated",)
    small: ClassVar[dict[str, Any]] = {**PuzzleTask.small, "size": 6}
    accepted_metric: ClassVar[str | None] = "optimal_path_accuracy"
    accepted_as: ClassVar[str] = "with any shortest path"

    @property
    def rules(self) -> MazeRules:
        return MazeRules(self.size)

    def accepts(self, inputs: Tensor, predicted: Tensor) -> Tensor:
        import torch  # not at the top: loading a config must not import torch

        boards, answers = ((tokens.numpy() - np.uint8(1)) for tokens in (inputs, predicted))
        return torch.from_numpy(optimal_paths(boards, answers, self.size))

    @property
    def least_length(self) -> int:
        """The fewest steps of a generated maze's path."""
        return self.min_rating or default_length(self.size)

    @property
    def rating_bounds(self) -> tuple[int, ...]:
        """Bounds close to the least length, because the frequency of path lengths falls exponentially."""
        return (0, *(self.least_length + more for more in (2, 4, 8)))

    def augment(self, num_aug: int | None) -> Augment:
        from trm.data.maze.augment import (
            MazeAugment,
        )  # not at the top: loading a config must not import torch

        return MazeAugment(self.size, num_aug, self.seed)

    @property
    def generated_counts(self) -> dict[str, int]:
        return {"train": 1000, "val": 200, "test": 1000}  # as in Maze-Hard, which has no val

    def generate(self, count: int) -> Puzzles:
        return generate(self.size, count, self.seed, self.least_length)

    def check(self) -> str | None:
        # Enough mazes exist with the default length; with another one there may be too few.
        is_sure = self.is_generated and self.min_rating is None and self.size >= 6
        return None if is_sure else super().check()
