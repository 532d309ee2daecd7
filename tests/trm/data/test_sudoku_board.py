from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.data.symmetry import canonical, cell_maps, random_symmetry
from trm.data.sudoku.board import class_keys, is_solution, units

SIZES = (4, 6, 9)


@settings(max_examples=20, deadline=None)
@given(size=st.sampled_from(SIZES), seed=st.integers(0, 2**32))
def test_a_class_has_one_key(puzzles, size, seed):
    boards, solutions = (x[:10] for x in puzzles[size])
    mapped, answers = random_symmetry(boards, solutions, size, np.random.default_rng(seed))
    assert (mapped != boards).any()
    assert is_solution(answers, size).all()
    assert (class_keys(boards, solutions, size) == class_keys(mapped, answers, size)).all()


def test_keys_tell_4x4_classes_apart_as_brute_force_does(puzzles):
    boards, solutions = puzzles[4]
    maps = cell_maps(4)
    assert len(maps) == 128
    forms = [canonical(board, maps) for board in boards]
    assert len(set(forms)) == len(boards)  # generate() gives each class once
    rng = np.random.default_rng(1)
    mapped, answers = random_symmetry(boards, solutions, 4, rng)
    assert [canonical(board, maps) for board in mapped] == forms
    assert len(set(class_keys(np.r_[boards, mapped], np.r_[solutions, answers], 4))) == len(boards)


def test_keys_of_hard_puzzles_are_all_different(hard):
    assert len(np.unique(class_keys(*hard, 9))) == 1000


def test_a_key_depends_on_every_clue(hard):
    boards, solutions = (x[:20] for x in hard)
    keys = class_keys(boards, solutions, 9)
    for cell in range(81):
        fewer = boards.copy()
        fewer[:, cell] = 0
        assert ((class_keys(fewer, solutions, 9) == keys) == (boards[:, cell] == 0)).all()


def test_no_rows_have_no_keys():
    nothing = np.empty((0, 16), np.uint8)
    assert len(class_keys(nothing, nothing, 4)) == 0


@pytest.mark.parametrize("size", SIZES)
def test_one_changed_cell_is_no_solution(puzzles, size):
    solutions = puzzles[size][1]
    assert is_solution(solutions, size).all()
    for cell in range(size * size):
        wrong = solutions.copy()
        wrong[:, cell] = wrong[:, cell] % size + 1
        assert not is_solution(wrong, size).any()
    assert not is_solution(puzzles[size][0], size).any()  # blanks


def test_latin_square_without_boxes_is_no_solution():
    square = (np.add.outer(np.arange(4), np.arange(4)) % 4 + 1).astype(np.uint8).reshape(1, 16)
    assert not is_solution(square, 4).any()


def test_boxes_of_6x6_are_two_rows_by_three_columns():
    cells = np.arange(36, dtype=np.uint8).reshape(1, 36)
    assert units(cells, 6)[2][0, 0].tolist() == [0, 1, 2, 6, 7, 8]
    assert units(cells, 6)[2][0, 3].tolist() == [15, 16, 17, 21, 22, 23]
