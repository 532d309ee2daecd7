from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.data.symmetry import cell_maps
from trm.data.boards.augment import _weights
from trm.data.sudoku.augment import SudokuAugment
from trm.data.sudoku.board import class_keys, is_solution

SIZES = (4, 6, 9)


def tokens(boards):
    return torch.from_numpy(boards + np.uint8(1))


def digits(rows):
    return rows.numpy() - np.uint8(1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=20, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    num_aug=st.sampled_from([None, 0, 1, 1000]),
    seed=st.integers(0, 2**32),
)
def test_rows_stay_in_their_class(puzzles, size, num_aug, seed):
    boards, solutions = puzzles[size]
    inputs, labels = SudokuAugment(size, num_aug)(tokens(boards), tokens(solutions), seeded(seed))
    assert inputs.dtype == labels.dtype == torch.uint8
    assert is_solution(digits(labels), size).all()
    assert ((inputs == 1) | (inputs == labels)).all()  # one map for both
    assert (class_keys(digits(inputs), digits(labels), size) == class_keys(boards, solutions, size)).all()


@pytest.mark.parametrize("num_aug", [None, 5])
def test_the_generator_decides_all(puzzles, num_aug):
    rows = [tokens(x) for x in puzzles[9]]
    augment = SudokuAugment(9, num_aug)
    first, again, other = (augment(*rows, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_get_different_maps(puzzles):
    board, solution = (tokens(x[:1]).expand(64, 81) for x in puzzles[9])
    inputs, _ = SudokuAugment(9)(board, solution, seeded())
    assert len(torch.unique(inputs, dim=0)) == 64


def test_pads_and_blanks_stay():
    rows = torch.tensor([[0] * 8 + [1] * 8], dtype=torch.uint8)
    inputs, labels = SudokuAugment(4)(rows, torch.zeros_like(rows), seeded())
    assert inputs.sort().values.tolist() == rows.tolist()
    assert not labels.any()


@pytest.mark.parametrize("size", [4, 6])
def test_every_symmetry_of_the_cells_is_drawn_evenly(size):
    """Cells are told apart by which one is not blank; a map is known by where the cells go."""
    maps = cell_maps(size)
    count = 20 * len(maps)
    cells = []
    for cell in range(size * size):
        rows = torch.ones(count, size * size, dtype=torch.uint8)
        rows[:, cell] = 2
        inputs, _ = SudokuAugment(size)(rows, rows, seeded())
        cells.append((inputs > 1).int().argmax(dim=1))
    drawn = torch.stack(cells, dim=1).numpy()
    kinds, counts = np.unique(drawn, axis=0, return_counts=True)
    assert {row.tobytes() for row in kinds} <= {np.argsort(row).tobytes() for row in maps}
    assert len(kinds) == len(maps)
    assert counts.max() < 60  # Poisson with mean 20: 60 is out of reach


def test_every_renaming_is_drawn():
    rows = torch.tensor([[2, 3, 4, 5] + [1] * 12], dtype=torch.uint8).expand(2000, 16)
    inputs, _ = SudokuAugment(4)(rows, rows, seeded())
    pairs = {tuple(row[row > 1].tolist()) for row in inputs}
    assert len(pairs) == 24


def test_a_fixed_number_of_variants(puzzles):
    boards, solutions = (tokens(x[:3]) for x in puzzles[9])
    augment = SudokuAugment(9, num_aug=4, seed=7)
    generator = seeded()
    visits = [torch.stack(augment(boards, solutions, generator), dim=1) for _ in range(200)]
    for row in range(3):
        seen = torch.unique(torch.stack([visit[row] for visit in visits]), dim=0)
        assert len(seen) == 5
        original = torch.stack([boards[row], solutions[row]])
        assert (seen == original).all(dim=(1, 2)).sum() == 1
    other = SudokuAugment(9, num_aug=4, seed=8)
    mine, theirs = (
        {tuple(a(boards[:1], solutions[:1], generator)[0][0].tolist()) for _ in range(60)}
        for a in (augment, other)
    )
    assert len(mine & theirs) == 1  # the original alone


def test_the_weights_of_the_hash_follow_from_the_seed():
    """So they did when they were drawn at every step: a resumed run meets the variants that it had."""
    expected = torch.randint(-(2**62), 2**62, (81,), generator=seeded(3))
    assert torch.equal(_weights(3, 81, torch.device("cpu")), expected)


def test_a_step_draws_nothing_that_would_be_sent_to_the_device(puzzles, monkeypatch):
    rows, drawn, randint = tokens(puzzles[9][0]), [], torch.randint
    monkeypatch.setattr(
        torch, "randint", lambda *args, **given: drawn.append(args) or randint(*args, **given)
    )
    augment, generator = SudokuAugment(9, num_aug=1000, seed=12345), seeded()
    augment(rows, rows, generator)
    assert len(drawn) == 2  # the hash's weights, once, and which variant each row gets
    augment(rows, rows, generator)
    assert len(drawn) == 3


def test_variants_do_not_depend_on_the_batch(puzzles):
    boards, solutions = (tokens(x) for x in puzzles[6])
    augment, generator = SudokuAugment(6, num_aug=1), seeded()
    alone = {tuple(augment(boards[9:10], solutions[9:10], generator)[0][0].tolist()) for _ in range(40)}
    within = {tuple(augment(boards, solutions, generator)[0][9].tolist()) for _ in range(40)}
    assert alone == within
    assert len(alone) == 2


def test_no_variants_leaves_rows_alone(puzzles):
    rows = tokens(puzzles[9][0])
    assert SudokuAugment(9, num_aug=0)(rows, rows, seeded())[0] is rows
