from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trm.batches import Batches, derive_seed
from trm.data.base import Split


def identity(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return inputs, labels


def noisy(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return inputs, torch.randint(1, 5, labels.shape, generator=generator).to(labels.dtype)


def make(n: int, batch_size: int, seed: int = 0, augment=identity) -> Batches:
    inputs = torch.arange(n, dtype=torch.int32)[:, None]
    return Batches(Split(inputs, inputs, torch.zeros(n)), augment, batch_size, seed, "cpu")


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 300), batch_size=st.integers(1, 400))
def test_every_puzzle_once_an_epoch(n: int, batch_size: int) -> None:
    batches = make(n, batch_size)
    stream = torch.cat([batches.rows(step) for step in range(1, 3 + 3 * n // batch_size)])
    for epoch in range(len(stream) // n):
        assert torch.equal(stream[epoch * n : (epoch + 1) * n].sort().values, torch.arange(n))


def test_a_batch_follows_from_seed_and_step_alone() -> None:
    n, batch_size = 1000, 768
    steps = [1, 2, 3, 84, 85, 86, 87, 170, 171]  # blocks of 66,000 rows end within steps 86 and 172
    there = make(n, batch_size, augment=noisy)
    forward = {step: there(step) for step in steps}
    for step in reversed(steps):
        inputs, labels = make(n, batch_size, augment=noisy)(step)
        assert torch.equal(inputs, forward[step][0])
        assert torch.equal(labels, forward[step][1])
    assert not torch.equal(forward[1][0], forward[2][0])
    assert not torch.equal(forward[1][1], forward[2][1])
    assert not torch.equal(make(n, batch_size, seed=1)(1)[0], forward[1][0])


def test_blocks_join_without_a_seam() -> None:
    batches = make(7, 5)
    length = batches.epochs_a_block * 7
    stream = torch.cat([batches.rows(step) for step in range(1, 2 + 2 * length // 5)])
    assert torch.equal(stream[: 2 * length].bincount(), torch.full((7,), 2 * batches.epochs_a_block))
    assert len(batches._blocks) <= 2


def test_seeds_of_different_uses_differ() -> None:
    seeds = {derive_seed(s, p, i) for s in range(5) for p in ("rows", "augment") for i in range(5)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)
