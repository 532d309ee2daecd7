"""What a task offers to the trainer: the size of its rows, its three splits, and its augmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from trm.grid import Grid

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class DataError(ValueError):
    """Data that cannot be used; the message names file, line, value and remedy."""


class TaskShape(NamedTuple):
    """Known from the config alone, before any file is read."""

    vocab_size: int
    seq_len: int
    num_identifiers: int = 1  # rows of the puzzle embedding
    grid: Grid | None = None  # where the tokens are the cells of a board, row after row


class Split(NamedTuple):
    """N puzzles as token ids; label 0 is ignored by the loss."""

    inputs: Tensor  # (N, L) uint8
    labels: Tensor  # (N, L) uint8
    ratings: Tensor  # (N,) int32, the puzzle's difficulty; -1 where unknown


class Augment(Protocol):
    """A random symmetry of the task, another for each row, drawn from `generator` on the rows' device."""

    def __call__(
        self, inputs: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class TaskData:
    """A loaded task, on the CPU."""

    train: Split
    val: Split
    test: Split
    groups: Tensor  # (G + 1,) int64: rows groups[i] to groups[i + 1] of train are variants of one puzzle
    augment: Augment
    hash: str  # sha256 of the three splits, and of groups where one has more than one row


class TaskConfig(BaseModel, ABC):
    """Where a task's rows come from; `task` is its name in YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str

    @property
    @abstractmethod
    def shape(self) -> TaskShape:
        """Vocabulary and length of a row."""

    @property
    def rating_bounds(self) -> tuple[int, ...]:
        """Where the buckets of ratings begin by which accuracy is told; the last bucket has no end.

        The default suits guesses of a solver, as Sudoku-Extreme has them: 15, 23, 31, 30 and 1% of its test.
        """
        return (0, 1, 10, 30, 100)

    def check(self) -> str | None:
        """Read and validate what the config names. Raises DataError.

        Returns the hash of what was read; None where nothing is, as the config alone determines the data.
        """
        return self.load().hash

    @abstractmethod
    def load(self) -> TaskData:
        """The three splits; the same config gives the same bits. Raises DataError."""
