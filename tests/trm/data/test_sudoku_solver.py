from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.data.sudoku.board import is_solution
from trm.data.sudoku.solver import solve, solved_by_singles

ROWS = np.array(list(permutations(range(1, 5))), np.uint8)


def every_4x4_solution() -> np.ndarray:
    boards = ROWS[list(product(range(24), repeat=4))].reshape(-1, 16)
    return boards[is_solution(boards, 4)]


GRIDS = every_4x4_solution()


def test_there_are_288_4x4_solutions():
    assert len(GRIDS) == 288
    counts, _ = solve(np.zeros((1, 16), np.uint8), 4, limit=1000)
    assert counts.tolist() == [288]


@settings(max_examples=50, deadline=None)
@given(
    grid=st.integers(0, 287),
    kept=st.lists(st.booleans(), min_size=16, max_size=16),
    wrong=st.none() | st.tuples(st.integers(0, 15), st.integers(1, 4)),
)
def test_counts_of_4x4_equal_brute_force(grid, kept, wrong):
    board = np.where(kept, GRIDS[grid], 0).astype(np.uint8)
    if wrong is not None:
        board[wrong[0]] = wrong[1]
    fits = ((board == 0) | (board == GRIDS)).all(axis=1)
    counts, solutions = solve(board[None], 4, limit=500)
    assert counts[0] == fits.sum()
    if fits.any():
        assert (GRIDS[fits] == solutions[0]).all(axis=1).any()
    else:
        assert not solutions.any()
    if solved_by_singles(board[None], 4)[0]:
        assert fits.sum() == 1


def test_hard_puzzles_are_solved_and_unique(hard):
    boards, solutions = (x[:200] for x in hard)
    counts, found = solve(boards, 9)
    assert (counts == 1).all()
    assert (found == solutions).all()
    assert not solved_by_singles(boards, 9).all()


def test_two_solutions_are_found(hard):
    fewer = np.where(np.arange(81) < 40, hard[0][:50], 0).astype(np.uint8)
    counts, found = solve(fewer, 9)
    assert (counts == 2).all()
    assert is_solution(found, 9).all()
    assert ((fewer == 0) | (found == fewer)).all()
    assert (solve(fewer, 9, limit=1)[0] == 1).all()


@pytest.mark.parametrize("size", [4, 6, 9])
def test_batches_do_not_mix(puzzles, size):
    boards, solutions = puzzles[size]
    impossible = boards[0].copy()
    impossible[:2] = 1
    mixed = np.concatenate([boards, impossible[None], boards])
    counts, found = solve(mixed, size)
    assert counts.tolist() == [1] * 100 + [0] + [1] * 100
    assert (found[:100] == solutions).all()
    assert (found[101:] == solutions).all()


def test_no_boards():
    counts, solutions = solve(np.empty((0, 81), np.uint8), 9)
    assert counts.shape == (0,)
    assert solutions.shape == (0, 81)
