"""The training batch of step t as a pure function of (seed, t), so that a run can resume from any step."""

from __future__ import annotations

import hashlib
import math

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from trm.data.base import TaskData

_BLOCK = 1 << 16  # rows of the stream drawn and sent to the device at a time, at least


def derive_seed(seed: int, purpose: str, index: int) -> int:
    """A seed in [0, 2^63) for one purpose of one run: other purposes or indices give unrelated streams."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Batches:
    """`batches(t)` is the batch of optimizer step t, counted from 1: (B, L) inputs and labels on `device`.

    Rows come from an endless stream of seeded permutations of the training puzzles, in batches of B. For
    a puzzle with several variants, one is drawn at random each time, as in the reference.
    Deviation: the reference drops an epoch's last, short batch; here every puzzle is drawn once an epoch.
    Rows are drawn on the CPU, so that they are the same on every device; symmetries are drawn on the device.
    """

    def __init__(self, data: TaskData, batch_size: int, seed: int, device: torch.device | str) -> None:
        self.inputs, self.labels = data.train.inputs.to(device), data.train.labels.to(device)
        self.augment, self.batch_size, self.seed, self.device = data.augment, batch_size, seed, device
        self.starts, self.sizes = data.groups[:-1], data.groups.diff()
        self.num_puzzles = len(self.starts)
        self.epochs_a_block = math.ceil(max(_BLOCK, batch_size) / self.num_puzzles)
        self._blocks: dict[int, Int[Tensor, " M"]] = {}
        self._generator = torch.Generator(device)

    def __call__(self, step: int) -> tuple[UInt8[Tensor, "B L"], UInt8[Tensor, "B L"]]:
        rows = self.rows(step)
        self._generator.manual_seed(derive_seed(self.seed, "augment", step))
        return self.augment(self.inputs[rows], self.labels[rows], self._generator)

    def rows(self, step: int) -> Int[Tensor, " B"]:
        """Indices of the training rows in the batch of `step`."""
        # A block is at least as long as a batch, so that a batch spans at most two blocks.
        length = self.epochs_a_block * self.num_puzzles
        block, start = divmod((step - 1) * self.batch_size, length)
        end = start + self.batch_size
        rows = self._block(block)[start:end]
        return rows if end <= length else torch.cat((rows, self._block(block + 1)[: end - length]))

    def _block(self, index: int) -> Int[Tensor, " M"]:
        if index not in self._blocks:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "rows", index))
            epochs = range(self.epochs_a_block)
            puzzles = torch.cat([torch.randperm(self.num_puzzles, generator=generator) for _ in epochs])
            # The numbers are so large that their remainders are practically uniform.
            drawn = torch.randint(2**62, puzzles.shape, generator=generator) % self.sizes[puzzles]
            self._blocks = {i: block for i, block in self._blocks.items() if i == index - 1}
            self._blocks[index] = (self.starts[puzzles] + drawn).to(self.device)
        return self._blocks[index]
