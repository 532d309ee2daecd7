"""Rules: the interface of a kind of puzzle for files, splits and the command line. Puzzles: N of its puzzles.

A cell holds a symbol 0, 1, 2, ...: a character in CSV, and token id minus one elsewhere (id 0 is padding).
Boards are uint8 arrays (N, cells), row by row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid

Boards = NDArray[np.uint8]
Keys = NDArray[np.uint64]  # of symmetry classes


@dataclass(frozen=True)
class Puzzles:
    """N puzzles with their solutions; rows of one group are variants of one puzzle."""

    boards: Boards  # (N, cells) symbols
    solutions: Boards  # (N, cells) symbols
    ratings: NDArray[np.int32]  # (N,), -1 if unknown
    groups: NDArray[np.int64]  # (groups + 1,): group i is rows groups[i] to groups[i + 1]
    places: NDArray[np.int64] | None = None  # (N,) line or row numbers in the file, if read from one
    file: str = ""  # prefix of these numbers in messages, such as "train.csv:"

    def __len__(self) -> int:
        return len(self.boards)

    @classmethod
    def single(cls, boards: Boards, solutions: Boards, ratings: NDArray[np.int32]) -> Puzzles:
        """Each puzzle a group of its own."""
        return cls(boards, solutions, ratings, np.arange(len(boards) + 1))

    def place(self, row: int) -> str:
        """The position of a row in its file, for a message."""
        return f"{self.file}{row if self.places is None else self.places[row]}"

    def take_groups(self, which: NDArray[np.intp], first_only: bool = False) -> Puzzles:
        """The rows of some groups, or only each group's first row."""
        starts, sizes = self.groups[which], np.diff(self.groups)[which]
        if first_only:
            sizes = np.ones_like(sizes)
        edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.repeat(starts - edges[:-1], sizes) + np.arange(edges[-1])
        places = None if self.places is None else self.places[rows]
        return Puzzles(self.boards[rows], self.solutions[rows], self.ratings[rows], edges, places, self.file)

    def at_least(self, rating: int | None) -> Puzzles:
        """The groups whose first puzzle is at least this difficult."""
        if rating is None:
            return self
        return self.take_groups(np.flatnonzero(self.ratings[self.groups[:-1]] >= rating))


@dataclass(frozen=True)
class Rules(ABC):
    """The rules of one kind of puzzle on boards of `size` x `size` cells."""

    size: int

    task: ClassVar[str]
    title: ClassVar[str]  # in messages: "Sudoku"
    claim: ClassVar[str]  # the property that is checked of every answer: "each with one solution"
    samples_answers: ClassVar[bool] = False  # whether `check_answers` has anything to do
    aliases: ClassVar[dict[str, str]] = {}  # other characters for a symbol

    @property
    @abstractmethod
    def alphabet(self) -> str:
        """The character of each symbol."""

    @property
    @abstractmethod
    def symbols(self) -> dict[str, range]:
        """The symbols allowed in a "question" and in an "answer"."""

    @property
    @abstractmethod
    def explained(self) -> dict[str, str]:
        """For messages: what is allowed in a "question" and an "answer", and what an "id" means."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """The shape of the board."""

    @abstractmethod
    def checked(self, puzzles: Puzzles) -> Puzzles:
        """The puzzles, with ratings if the rules define them. Raises DataError at an invalid puzzle."""

    def check_answers(self, puzzles: Puzzles, most: int | None = None) -> None:  # noqa: B027
        """Raise DataError if a puzzle's answer cannot be inferred; check at most `most` groups (None: all).

        For checks that are too slow for `checked`.
        """

    @abstractmethod
    def class_keys(self, puzzles: Boards, solutions: Boards) -> Keys:
        """(N,) keys that are equal for all puzzles of a symmetry class."""

    @abstractmethod
    def summary(self, puzzles: Puzzles) -> str:
        """A short description of the boards: "clues 5 to 8 (mean 6.1)"."""

    @abstractmethod
    def picture(self, board: Boards) -> str:
        """One board, (cells,), as text with a line per row."""

    @property
    def name(self) -> str:
        return f"{self.size}x{self.size} {self.title}"

    @property
    def cells(self) -> int:
        return self.size**2

    @property
    def vocab_size(self) -> int:
        return len(self.alphabet) + 1

    def text(self, board: NDArray[Any]) -> str:
        """A board on one line, as in CSV."""
        return "".join(self.alphabet[symbol] for symbol in board.tolist())

    def keys(self, puzzles: Puzzles, groups: NDArray[np.intp] | None = None) -> Keys:
        """The class keys of the first puzzles of some groups, or of all."""
        which = np.arange(len(puzzles.groups) - 1) if groups is None else groups
        first = puzzles.take_groups(which, first_only=True)
        return self.class_keys(first.boards, first.solutions)


def span(values: NDArray[Any]) -> str:
    """Range and mean of numbers, as text."""
    if len(values) == 1:
        return f"{values[0]:g}"
    return f"{values.min():g} to {values.max():g} (mean {values.mean():.1f})"
