from __future__ import annotations

import numpy as np
import pytest

from trm.data.base import DataError
from trm.data.sudoku.board import class_keys, is_solution
from trm.data.sudoku.generate import RECIPES, generate, random_solutions
from trm.data.sudoku.solver import solve, solved_by_singles


@pytest.mark.parametrize("size", [4, 6, 9])
def test_puzzles_are_unique_easy_and_of_different_classes(size):
    boards, solutions = generate(size, 300, seed=5)
    counts, found = solve(boards, size)
    assert (counts == 1).all()
    assert (found == solutions).all()
    assert solved_by_singles(boards, size).all()
    clues = (boards > 0).sum(axis=1)
    low, high = RECIPES[size].clues
    assert low <= clues.min() < clues.max() <= high
    assert len(np.unique(class_keys(boards, solutions, size))) == 300


def test_a_seed_is_a_data_set():
    again = [generate(6, 50, seed) for seed in (1, 1, 2)]
    assert (again[0][0] == again[1][0]).all()
    assert not (again[0][0] == again[2][0]).all()
    assert (generate(6, 30, 1)[0] == again[0][0][:30]).all()  # more puzzles change none


@pytest.mark.parametrize("seed", range(5))
def test_cuts_of_4x4_have_clues_alike(seed):
    boards, _ = generate(4, 1800, seed)
    assert (generate(4, 800, seed)[0] == boards[:800]).all()  # val and test stay when num_train changes
    means = [(part > 0).sum(axis=1).mean() for part in np.split(boards, [400, 800])]
    assert max(means) - min(means) < 0.25


def test_seeds_shuffle_the_same_4x4_puzzles():
    found = [generate(4, 2132, seed)[0] for seed in (0, 1)]
    assert not (found[0] == found[1]).all()
    assert {row.tobytes() for row in found[0]} == {row.tobytes() for row in found[1]}


def test_more_classes_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"20000 puzzles of 4x4 .* only \d{4} of different classes"):
        generate(4, 20_000, seed=0)


@pytest.mark.parametrize("size", [4, 6, 9])
def test_solutions_are_valid_and_varied(size):
    solutions = random_solutions(500, size, np.random.default_rng(0))
    assert len(solutions) > 200  # half of the diagonals of 4x4 have no completion
    assert is_solution(solutions, size).all()
    assert len({row.tobytes() for row in solutions}) > (120 if size == 4 else 490)
    # Each digit is as likely in each cell: 240 draws have a standard error below 0.03.
    share = np.stack([(solutions == digit).mean(axis=0) for digit in range(1, size + 1)])
    assert np.abs(share - 1 / size).max() < 0.1
