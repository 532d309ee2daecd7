"""The eight rotations and reflections of a square board, and the symmetry classes of mazes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trm.data.boards.rules import Boards, Keys

_CHUNK = 1024  # mazes at a time


@lru_cache(maxsize=8)
def cell_maps(size: int) -> NDArray[np.int64]:
    """(8, cells): cell c of image k is cell [k, c] of the board. Image 0 is the board itself."""
    cells = np.arange(size * size).reshape(size, size)
    return np.stack([np.rot90(board, turns).ravel() for board in (cells, cells.T) for turns in range(4)])


def class_keys(boards: Boards, size: int) -> Keys:
    """(N,) keys that are equal for the eight images of a maze: the smallest of their hashes.

    A hash is the sum of a random number for each cell and symbol. Two classes may share a key; a split by key
    is still correct, because it puts both in the same split.
    """
    chunks = range(0, len(boards), _CHUNK)
    return np.concatenate([np.empty(0, np.uint64), *(_keys(boards[i : i + _CHUNK], size) for i in chunks)])


def _keys(boards: Boards, size: int) -> Keys:
    numbers = np.random.default_rng(0).integers(0, 2**64, (size * size, 5), np.uint64)
    cells = np.arange(size * size)
    hashes = [numbers[cells, boards[:, image]].sum(axis=1) for image in cell_maps(size)]
    return np.minimum.reduce(hashes)
