"""What a task offers to the trainer: the size of its rows, its three splits, and its augmentation."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

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
    """N puzzles as token ids, from 0 to vocab_size - 1; label 0 is ignored by the loss."""

    inputs: Tensor  # (N, L) uint8
    labels: Tensor  # (N, L) uint8
    ratings: Tensor  # (N,) int32, the puzzle's difficulty; -1 where unknown

    @classmethod
    def unrated(cls, inputs: Tensor, labels: Tensor) -> Self:
        """A split whose puzzles are of unknown difficulty."""
        import torch  # not at the top: a config is read without it

        return cls(inputs, labels, torch.full((len(inputs),), -1, dtype=torch.int32))


class Augment(Protocol):
    """A random symmetry of the task, another for each row, drawn from `generator` on the rows' device."""

    def __call__(
        self, inputs: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]: ...


def unchanged(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The augmentation of a task that has none."""
    return inputs, labels


@dataclass(frozen=True)
class TaskData:
    """A loaded task, on the CPU; `TaskData.of` fills in what a task does not have."""

    train: Split
    val: Split
    test: Split
    groups: Tensor  # (G + 1,) int64: rows groups[i] to groups[i + 1] of train are variants of one puzzle
    augment: Augment
    hash: str  # sha256 of the three splits, and of groups where one has more than one row

    @classmethod
    def of(
        cls,
        train: Split,
        val: Split,
        test: Split,
        groups: Tensor | None = None,
        augment: Augment = unchanged,
    ) -> TaskData:
        """The three splits with their hash; by default each row of train is a puzzle of its own."""
        import torch

        single = torch.arange(len(train.inputs) + 1)
        groups = single if groups is None else groups
        has_variants = len(groups) < len(single)
        digest = hashlib.sha256()
        for tensor in (*train, *val, *test, *([groups] if has_variants else [])):
            digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        return cls(train, val, test, groups, augment, digest.hexdigest())


class TaskConfig(BaseModel, ABC):
    """Where a task's rows come from; `task` is its name in YAML.

    A task must give `task`, `shape` and `load`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str

    small: ClassVar[dict[str, Any]] = {}  # values of fields that load in a moment, for tests
    # The name of the share of rows that `accepts`, for a task with more than one right answer.
    accepted_metric: ClassVar[str | None] = None
    accepted_as: ClassVar[str] = "with any right answer"  # how messages tell of these rows

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

    def accepts(self, inputs: Tensor, predicted: Tensor) -> Tensor:
        """Which rows are right whatever their label says, (N,) bool, from tokens (N, L) on the CPU.

        Called only if the task has an `accepted_metric`.
        """
        raise NotImplementedError

    def check(self) -> str | None:
        """Read and validate what the config names. Raises DataError.

        Returns the hash of what was read; None where nothing is, as the config alone determines the data.
        """
        return self.load().hash

    @abstractmethod
    def load(self) -> TaskData:
        """The three splits; the same config gives the same bits. Raises DataError."""
