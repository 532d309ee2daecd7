"""A random symmetry of the board for each row of a batch, on the batch's device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

# Multipliers of splitmix64's finaliser, as signed integers.
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


@dataclass(frozen=True)
class RandomSymmetry(ABC):
    """Maps inputs and labels of a row by the same symmetry; padding is unchanged.

    With `num_aug` None each visit draws a new symmetry. Otherwise each row has `num_aug` fixed symmetries,
    which depend on its inputs and `seed` only, and a visit draws one of them or the unchanged row. The
    reference implementation draws from a file of such variants instead.
    """

    size: int
    num_aug: int | None = None
    seed: int = 0

    def __call__(self, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The mapped rows, (B, n*n) uint8 each; draws from `generator`, which is on the rows' device."""
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
    @abstractmethod
    def _width(self) -> int:
        """Number of random numbers that define a symmetry."""

    @abstractmethod
    def _map(self, inputs: Tensor, labels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Both boards of each row under the symmetry that its random numbers, (B, width), define."""

    def _hashed(self, inputs: Tensor, variant: Tensor) -> Tensor:
        """(B, width) numbers in [0, 1) that depend only on a row's inputs, its variant and the seed."""
        weights = _weights(self.seed, inputs.shape[1], inputs.device)
        row = _mix((_mix(inputs.long()) * weights).sum(dim=1, keepdim=True))
        draws = _mix(_mix(row + variant) + torch.arange(self._width, device=inputs.device))
        return ((draws >> 40) & 0xFFFFFF) / 2.0**24


@lru_cache(maxsize=8)
def _weights(seed: int, cells: int, device: torch.device) -> Tensor:
    """(cells,) int64, cached on the device: a copy at every step would make the host wait for the device."""
    seeded = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**62), 2**62, (cells,), generator=seeded).to(device)


def _mix(values: Tensor) -> Tensor:
    """A scattering of 64-bit integers (as splitmix64's finaliser); torch's shifts keep the sign, so mask."""
    values = values + 0x1E3779B97F4A7C15
    for shift, factor in zip((30, 27), _MIX, strict=True):
        values = (values ^ ((values >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return values ^ ((values >> 31) & ((1 << 33) - 1))
