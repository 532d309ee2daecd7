"""A random symmetry of the board for each row of a batch, on the batch's device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trm.data.sudoku.grid import BOX_SHAPES

# Multipliers of splitmix64's finaliser, as signed integers.
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


@dataclass(frozen=True)
class SudokuAugment:
    """Permutes digits, bands, rows in a band, stacks, columns in a stack; transposes with probability 1/2.

    6x6 boards are not transposed: their boxes are 2x3. Pads and blanks stay what they are. Inputs and labels
    of a row get the same map. With `num_aug` None each visit draws a new map. Otherwise each row has
    `num_aug` maps for good, which follow from its clues and `seed`, and a visit draws one of them or the
    unchanged row: what the reference implementation draws from a file of variants, without the file.
    """

    size: int
    num_aug: int | None = None
    seed: int = 0

    def __call__(self, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows (B, n*n) uint8 and the same mapped; draws from `generator`, which is on the rows' device."""
        if self.num_aug == 0:
            return inputs, labels
        device = inputs.device
        if self.num_aug is None:
            uniform = torch.rand(len(inputs), self._width, generator=generator, device=device)
            return self._map(inputs, labels, uniform)
        variant = torch.randint(self.num_aug + 1, (len(inputs), 1), generator=generator, device=device)
        mapped = self._map(inputs, labels, self._hashed(inputs, variant))
        return torch.where(variant == 0, inputs, mapped[0]), torch.where(variant == 0, labels, mapped[1])

    @property
    def _parts(self) -> list[int]:
        """How many random numbers a map needs: digits, bands and rows, stacks and columns, transposition."""
        box_rows, box_cols = BOX_SHAPES[self.size]
        return [self.size, self.size // box_rows + self.size, self.size // box_cols + self.size, 1]

    @property
    def _width(self) -> int:
        return sum(self._parts)

    def _map(self, inputs: Tensor, labels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Both boards of a row under the map that its random numbers (B, width) say."""
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

    def _hashed(self, inputs: Tensor, variant: Tensor) -> Tensor:
        """(B, width) numbers in [0, 1) that depend on a row's clues, its variant and the seed alone."""
        weights = _weights(self.seed, inputs.shape[1], inputs.device)
        row = _mix((_mix(inputs.long()) * weights).sum(dim=1, keepdim=True))
        draws = _mix(_mix(row + variant) + torch.arange(self._width, device=inputs.device))
        return ((draws >> 40) & 0xFFFFFF) / 2.0**24


@lru_cache(maxsize=8)
def _weights(seed: int, cells: int, device: torch.device) -> Tensor:
    """(cells,) int64, kept on the device: copying them at every step would have the host wait for it."""
    seeded = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**62), 2**62, (cells,), generator=seeded).to(device)


def _shuffled_lines(uniform: Tensor, per_band: int) -> Tensor:
    """(B, n): rows with the bands permuted, and the rows in each band; or columns with their stacks."""
    size = uniform.shape[1] * per_band // (per_band + 1)
    bands, lines = uniform.split([size // per_band, size], dim=1)
    band_of = bands.argsort(dim=1)[:, :, None]
    return (band_of * per_band + lines.unflatten(1, (-1, per_band)).argsort(dim=2)).flatten(1)


def _mix(values: Tensor) -> Tensor:
    """A scattering of 64-bit integers (as splitmix64's finaliser); torch's shifts keep the sign, so mask."""
    values = values + 0x1E3779B97F4A7C15
    for shift, factor in zip((30, 27), _MIX, strict=True):
        values = (values ^ ((values >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return values ^ ((values >> 31) & ((1 << 33) - 1))
