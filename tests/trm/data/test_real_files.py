"""Real puzzles, where the folder with them is at hand."""

from __future__ import annotations

import time

import numpy as np

from trm.data.boards.csv_files import read_csv
from trm.data.boards.splits import load_splits
from trm.data.sudoku import SudokuConfig
from trm.data.sudoku.board import class_keys
from trm.data.sudoku.rules import SudokuRules


def test_the_published_training_file(shared):
    config = SudokuConfig(
        source="csv", train=shared / "train.csv", test=shared / "test_sudoku_bench.csv", num_val=100
    )
    splits = load_splits(config)
    assert [len(part) for part in splits.parts.values()] == [900, 100, 100]
    assert splits.train.ratings.min() >= 0


def test_a_big_file_is_read_and_split_quickly(shared):
    start = time.process_time()
    pool = read_csv(shared / "train_pool.csv", SudokuRules(9))
    keys = class_keys(pool.boards, pool.solutions, 9)
    assert time.process_time() - start < 10  # 1.5 s on an idle core
    assert len(pool) == len(np.unique(keys)) == 61_339  # its rows are one a class


def test_train_and_test_files_share_no_class(shared):
    keys = [
        class_keys(part.boards, part.solutions, 9)
        for part in (read_csv(shared / f"{name}.csv", SudokuRules(9)) for name in ("train", "test"))
    ]
    assert not np.isin(*keys).any()
