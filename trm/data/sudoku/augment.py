"""A random symmetry of a Sudoku for each row of a batch, on the batch's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trm.data.boards.augment import RandomSymmetry
from trm.data.sudoku.board import BOX_SHAPES


@dataclass(frozen=True)
class SudokuAugment(RandomSymmetry):
    """Permutes digits, bands, rows in a band, stacks, columns in a stack; transposes with probability 1/2.

    6x6 boards are not transposed, because their boxes are 2x3. Blanks are unchanged.
    """

    @property
    def _parts(self) -> list[int]:
        """Numbers of random numbers: digits, bands and rows, stacks and columns, transposition."""
        box_rows, box_cols = BOX_SHAPES[self.size]
        return [self.size, self.size // box_rows + self.size, self.size // box_cols + self.size, 1]

    @property
    def _width(self) -> int:
        return sum(self._parts)

    def _map(self, inputs: Tensor, labels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        box_rows, box_cols = BOX_SHAPES[self.size]
        digits, rows, cols, flip = uniform.split(self._parts, dim=1)
        kept = torch.arange(2, device=inputs.device).expand(len(inputs), 2)  # pad and blank
        names = torch.cat([kept, digits.argsort(dim=1) + 2], dim=1).to(inputs.dtype)
        row_of = _shuffled_lines(rows, box_rows)
        col_of = _shuffled_lines(cols, box_cols)
        cells = row_of[:, :, None] * self.size + col_of[:, None, :]
        if box_rows == box_cols:
            cells = torch.where(flip[:, :, None] < 0.5, cells.transpose(1, 2), cells)
        cells = cells.flatten(1)
        moved = [names.gather(1, tokens.gather(1, cells).long()) for tokens in (inputs, labels)]
        return moved[0], moved[1]


def _shuffled_lines(uniform: Tensor, per_band: int) -> Tensor:
    """(B, n): rows with the bands permuted, and the rows in each band; or columns with their stacks."""
    size = uniform.shape[1] * per_band // (per_band + 1)
    bands, lines = uniform.split([size // per_band, size], dim=1)
    band_of = bands.argsort(dim=1)[:, :, None]
    return (band_of * per_band + lines.unflatten(1, (-1, per_band)).argsort(dim=2)).flatten(1)
