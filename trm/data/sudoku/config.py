"""SudokuConfig: where the puzzles come from, how they are split, and how they are augmented."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from trm.data.base import TaskConfig, TaskData, TaskShape
from trm.data.sudoku.grid import BOX_SHAPES
from trm.grid import Grid

Source = Literal["embedded", "generated_hard", "csv", "hub", "npy"]

# The keys that belong to some sources only; every other key is for all.
ONLY_FOR: dict[str, tuple[Source, ...]] = {
    "train": ("csv",),
    "val": ("csv",),
    "test": ("csv",),
    "path": ("npy",),
    "repo": ("hub",),
    "min_rating": ("generated_hard", "csv", "hub"),
}


class SudokuConfig(TaskConfig):
    """`data: {task: sudoku, source: embedded, size: 4}` needs no file and no network.

    Sources: `embedded`, generated easy puzzles (singles solve them); `generated_hard`, 9x9 files inside the
    package; `csv`, files with the columns of Sudoku-Extreme; `hub`, the same from a data set on the Hugging
    Face hub; `npy`, a folder in the reference implementation's format.
    """

    task: Literal["sudoku"] = "sudoku"
    source: Source = "embedded"
    size: Literal[4, 6, 9] = 9
    train: Path | None = None  # csv: the training file
    val: Path | None = None  # csv: default: num_val are cut from train, by symmetry class
    test: Path | None = None  # csv: the test file
    path: Path | None = None  # npy: the folder that holds train/, test/, perhaps val/
    repo: str | None = None  # hub: such as sapientinc/sudoku-extreme
    # Numbers of puzzles; those of `embedded` default to its recipe (generate.py).
    num_train: int | None = Field(None, ge=1)  # drawn with `seed`; default: all
    num_val: int | None = Field(None, ge=1)  # default: a tenth of train, at most 1,000
    num_test: int | None = Field(None, ge=1)  # default: all
    min_rating: int | None = Field(None, ge=0)  # only puzzles at least this difficult
    # Fixed variants of each training row, drawn from at each visit (0: none); null: a new one at each visit,
    # but none where a folder (npy) holds variants already, of which each epoch draws one a puzzle.
    num_aug: int | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)  # of generation, draws and fixed variants; independent of the trial's seed

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> Self:
        for key, sources in ONLY_FOR.items():
            if getattr(self, key) is not None and self.source not in sources:
                raise ValueError(
                    f"{key} is for source {' or '.join(sources)}, but source is {self.source}: "
                    f"remove {key}, or set source"
                )
        needed = {"csv": ("train", "test"), "npy": ("path",), "hub": ("repo",)}.get(self.source, ())
        for key in needed:
            if getattr(self, key) is None:
                raise ValueError(f"source {self.source} needs {' and '.join(needed)}: {key} is missing")
        if self.source in ("generated_hard", "hub") and self.size != 9:
            raise ValueError(f"source {self.source} holds 9x9 puzzles, but size is {self.size}: set size: 9")
        return self

    @property
    def shape(self) -> TaskShape:
        grid = Grid(self.size, self.size, BOX_SHAPES[self.size])
        return TaskShape(vocab_size=self.size + 2, seq_len=self.size**2, grid=grid)

    def check(self) -> str | None:
        # 6x6 and 9x9 puzzles can always be generated, which takes seconds; 4x4 may run out of classes.
        if self.source == "embedded" and self.size != 4:
            return None
        return self.load().hash

    def load(self) -> TaskData:
        from trm.data.sudoku.splits import load  # not at the top: a config is read without torch

        return load(self)
