"""SudokuConfig: where the puzzles come from, how they are split, and how they are augmented."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from trm.data.base import Augment
from trm.data.boards.rules import Puzzles
from trm.data.boards.task import PuzzleTask
from trm.data.sudoku.generate import RECIPES, generate
from trm.data.sudoku.rules import SudokuRules


class SudokuConfig(PuzzleTask):
    """`data: {task: sudoku, source: embedded, size: 4}` needs no file and no network.

    Sources: `embedded`, generated easy puzzles (solvable by singles); `generated_hard`, 9x9 files inside the
    package; and those of all tasks. The rating is the one in the files: the number of a solver's guesses.
    """

    task: Literal["sudoku"] = "sudoku"
    source: Literal["embedded", "generated_hard", "csv", "hub", "npy"] = "embedded"
    size: Literal[4, 6, 9] = 9

    only_for: ClassVar[dict[str, tuple[str, ...]]] = {
        **PuzzleTask.only_for,
        "min_rating": ("generated_hard", "csv", "hub"),
    }
    generated_sources: ClassVar[tuple[str, ...]] = ("embedded",)
    small: ClassVar[dict[str, Any]] = {**PuzzleTask.small, "size": 4}

    @model_validator(mode="after")
    def _size_fits_the_source(self) -> Self:
        if self.source in ("generated_hard", "hub") and self.size != 9:
            raise ValueError(f"source {self.source} has 9x9 puzzles, but size is {self.size}: set size: 9")
        return self

    @property
    def rules(self) -> SudokuRules:
        return SudokuRules(self.size)

    def augment(self, num_aug: int | None) -> Augment:
        from trm.data.sudoku.augment import (
            SudokuAugment,
        )  # not at the top: loading a config must not import torch

        return SudokuAugment(self.size, num_aug, self.seed)

    @property
    def generated_counts(self) -> dict[str, int]:
        recipe = RECIPES[self.size]
        return {"train": recipe.num_train, "val": recipe.num_val, "test": recipe.num_test}

    def generate(self, count: int) -> Puzzles:
        boards, solutions = generate(self.size, count, self.seed)
        return Puzzles.single(boards, solutions, np.zeros(count, np.int32))  # rating 0: no guess is needed

    def packaged_files(self) -> dict[str, Path]:
        package = Path(str(resources.files("trm.data.sudoku")))
        return {split: package / f"generated_hard_{split}.csv.gz" for split in ("train", "test")}

    def check(self) -> str | None:
        # 6x6 and 9x9 puzzles can always be generated, in seconds; 4x4 may run out of symmetry classes.
        return None if self.is_generated and self.size != 4 else super().check()
