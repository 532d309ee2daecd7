"""Symmetries of a board, written plainly: what the vectorised code is compared with."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from trm.data.boards.rules import Boards
from trm.data.sudoku.board import BOX_SHAPES


def random_symmetry(puzzles: Boards, solutions: Boards, size: int, rng) -> tuple[Boards, Boards]:
    """Another symmetry of each puzzle, and the same one of its solution."""
    mapped = [_one(p, s, size, rng) for p, s in zip(puzzles, solutions, strict=True)]
    return np.stack([p for p, _ in mapped]), np.stack([s for _, s in mapped])


def _one(puzzle: Boards, solution: Boards, size: int, rng) -> tuple[Boards, Boards]:
    box_rows, box_cols = BOX_SHAPES[size]
    names = np.concatenate([[0], rng.permutation(size) + 1]).astype(np.uint8)
    rows, cols = _lines(size, box_rows, rng), _lines(size, box_cols, rng)
    flip = box_rows == box_cols and rng.random() < 0.5
    boards = []
    for board in (puzzle, solution):
        grid = names[board].reshape(size, size)[rows][:, cols]
        boards.append((grid.T if flip else grid).reshape(-1))
    return boards[0], boards[1]


def _lines(size: int, per_band: int, rng) -> list[int]:
    bands = rng.permutation(size // per_band)
    return [band * per_band + line for band in bands for line in rng.permutation(per_band)]


def cell_maps(size: int) -> np.ndarray:
    """Every symmetry but the renamings, as (symmetries, n*n) source cells."""
    box_rows, box_cols = BOX_SHAPES[size]

    def orders(per_band: int) -> list[list[int]]:
        inner = list(permutations(range(per_band)))
        return [
            [band * per_band + line for band, lines in zip(bands, chosen, strict=True) for line in lines]
            for bands in permutations(range(size // per_band))
            for chosen in product(inner, repeat=size // per_band)
        ]

    cells = np.arange(size * size).reshape(size, size)
    maps = [cells[rows][:, cols] for rows in orders(box_rows) for cols in orders(box_cols)]
    if box_rows == box_cols:
        maps += [grid.T for grid in maps]
    return np.array([grid.reshape(-1) for grid in maps])


def canonical(puzzle: Boards, maps: np.ndarray) -> bytes:
    """The least image of a puzzle: equal for two puzzles if and only if they are of one class."""
    images = puzzle[maps]
    first = np.full((len(maps), int(puzzle.max()) + 1), 255, np.int64)
    for cell in range(images.shape[1] - 1, -1, -1):  # where each digit is seen first
        first[np.arange(len(maps)), images[:, cell]] = cell
    first[:, 0] = -1  # blanks stay 0
    names = first.argsort(axis=1).argsort(axis=1)
    renamed = np.take_along_axis(names, images.astype(np.int64), axis=1).astype(np.uint8)
    return min(row.tobytes() for row in renamed)
