from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trm.batches import Batches, derive_seed
from trm.data.base import Split, TaskData


def identity(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return inputs, labels


def noisy(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return inputs, torch.randint(1, 5, labels.shape, generator=generator).to(labels.dtype)


def make(n: int, batch_size: int, seed: int = 0, augment=identity, sizes: list[int] | None = None) -> Batches:
    """`sizes` are those of the n groups; by default each row is its own."""
    groups = torch.tensor([0, *(sizes or [1] * n)]).cumsum(0)
    inputs = torch.arange(int(groups[-1]), dtype=torch.int32)[:, None]
    split = Split(inputs, inputs, torch.zeros(len(inputs)))
    return Batches(TaskData(split, split, split, groups, augment, ""), batch_size, seed, "cpu")


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 300), batch_size=st.integers(1, 400))
def test_every_puzzle_once_an_epoch(n: int, batch_size: int) -> None:
    batches = make(n, batch_size)
    stream = torch.cat([batches.rows(step) for step in range(1, 3 + 3 * n // batch_size)])
    for epoch in range(len(stream) // n):
        assert torch.equal(stream[epoch * n : (epoch + 1) * n].sort().values, torch.arange(n))


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=100), batch_size=st.integers(1, 400))
def test_one_row_of_every_group_an_epoch(sizes: list[int], batch_size: int) -> None:
    n = len(sizes)
    batches = make(n, batch_size, sizes=sizes)
    stream = torch.cat([batches.rows(step) for step in range(1, 3 + 3 * n // batch_size)])
    group_of = torch.arange(n).repeat_interleave(torch.tensor(sizes))
    for epoch in range(len(stream) // n):
        assert torch.equal(group_of[stream[epoch * n : (epoch + 1) * n]].sort().values, torch.arange(n))


def test_the_rows_of_a_group_are_drawn_evenly() -> None:
    sizes = [1, 2, 5, 10]
    batches = make(4, 1000, sizes=sizes)
    counts = torch.cat([batches.rows(step) for step in range(1, 41)]).bincount(minlength=18)
    for part, size in zip(counts.split(sizes), sizes, strict=True):
        assert part.sum() == 10_000
        assert (part - 10_000 / size).abs().max() < 5 * (10_000 / size) ** 0.5
    assert not torch.equal(batches.rows(1), make(4, 1000, seed=1, sizes=sizes).rows(1))


def test_without_variants_the_rows_are_permutations_alone() -> None:
    """So they were before there were groups: a resumed run goes on with the rows that it would have had."""
    generator = torch.Generator().manual_seed(derive_seed(3, "rows", 0))
    epochs = torch.cat([torch.randperm(1000, generator=generator) for _ in range(66)])
    batches = make(1000, 768, seed=3)
    stream = torch.cat([batches.rows(step) for step in range(1, 86)])
    assert torch.equal(stream, epochs[: 85 * 768])


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
