"""A random rotation or reflection of a maze for each row of a batch, on the batch's device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trm.data.boards.augment import RandomSymmetry
from trm.data.maze.symmetry import cell_maps


@dataclass(frozen=True)
class MazeAugment(RandomSymmetry):
    """One of the eight symmetries, drawn uniformly.

    The image of a labelled path is a shortest path of the mapped maze, but seldom the one that would be its
    label: the rule that picks one (`trm.data.maze.paths.answer`) tries left before right and down before up.
    """

    @property
    def _width(self) -> int:
        return 1

    def _map(self, inputs: Tensor, labels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        cells = _maps(self.size, inputs.device)[(uniform[:, 0] * 8).long()]
        return inputs.gather(1, cells), labels.gather(1, cells)


@lru_cache(maxsize=8)
def _maps(size: int, device: torch.device) -> Tensor:
    return torch.from_numpy(cell_maps(size)).to(device)
