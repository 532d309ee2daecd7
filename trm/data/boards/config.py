"""PuzzleConfig: the keys that all board tasks share: sources, splits and variants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from trm.data.base import Augment, TaskConfig, TaskShape
from trm.data.boards.rules import Puzzles, Rules

_NEEDED = {"csv": ("train", "test"), "npy": ("path",), "hub": ("repo",)}


class PuzzleConfig(TaskConfig, ABC):
    """All tasks have three sources: `csv`, files with the columns of Sudoku-Extreme and Maze-Hard; `hub`, the
    files from a data set on the Hugging Face hub; `npy`, a folder in the reference's format.
    """

    source: str
    size: int  # cells per side
    train: Path | None = None  # csv: the training file
    val: Path | None = None  # csv; default: num_val puzzles are cut from train, by symmetry class
    test: Path | None = None  # csv: the test file
    path: Path | None = None  # npy: the folder with train/, test/ and optionally val/
    repo: str | None = None  # hub: a name such as sapientinc/sudoku-extreme
    # Numbers of puzzles; for generated puzzles the task has its own defaults.
    num_train: int | None = Field(None, ge=1)  # drawn with `seed`; default: all
    num_val: int | None = Field(None, ge=1)  # default: a tenth of train, at most 1,000
    num_test: int | None = Field(None, ge=1)  # default: all
    min_rating: int | None = Field(None, ge=0)  # only puzzles at least this difficult
    # Number of fixed variants of each training row, one of which is drawn at each visit (0: none). null: a
    # new random variant at each visit, or none if a folder (npy) already contains variants, of which each
    # epoch draws one per puzzle.
    num_aug: int | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)  # for generation, draws and fixed variants; independent of the trial's seed

    # Keys that only some sources have; all sources have the other keys.
    only_for: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": ("csv",),
        "val": ("csv",),
        "test": ("csv",),
        "path": ("npy",),
        "repo": ("hub",),
    }
    generated_sources: ClassVar[tuple[str, ...]] = ()
    small: ClassVar[dict[str, Any]] = {"num_train": 40, "num_val": 20, "num_test": 10}

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> Self:
        for key, sources in self.only_for.items():
            if getattr(self, key) is not None and self.source not in sources:
                raise ValueError(
                    f"{key} is for source {' or '.join(sources)}, but source is {self.source}: "
                    f"remove {key}, or set source"
                )
        needed = _NEEDED.get(self.source, ())
        for key in needed:
            if getattr(self, key) is None:
                raise ValueError(f"source {self.source} needs {' and '.join(needed)}: {key} is missing")
        return self

    @property
    @abstractmethod
    def rules(self) -> Rules:
        """The rules of boards of this size."""

    @abstractmethod
    def augment(self, num_aug: int | None) -> Augment:
        """Random symmetries with `num_aug` variants of each row, as in the field."""

    @property
    @abstractmethod
    def generated_counts(self) -> dict[str, int]:
        """Default numbers of puzzles of train, val and test if they are generated."""

    @abstractmethod
    def generate(self, count: int) -> Puzzles:
        """Puzzles of `count` different classes, from `seed`; larger counts append. Raises DataError."""

    def packaged_files(self) -> dict[str, Path]:
        """Files by split, if the source's files are inside the package."""
        return {}

    @property
    def is_generated(self) -> bool:
        return self.source in self.generated_sources

    @property
    def shape(self) -> TaskShape:
        rules = self.rules
        return TaskShape(vocab_size=rules.vocab_size, seq_len=rules.cells, grid=rules.grid)
