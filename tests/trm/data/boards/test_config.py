from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from trm.data.base import TaskShape
from trm.data.sudoku import SudokuConfig
from trm.grid import Grid


def test_the_default_needs_nothing():
    assert SudokuConfig().shape == TaskShape(vocab_size=11, seq_len=81, grid=Grid(9, 9, (3, 3)))


@pytest.mark.parametrize(("size", "vocab_size", "box"), [(4, 6, (2, 2)), (6, 8, (2, 3)), (9, 11, (3, 3))])
def test_the_shape_follows_from_the_size(size, vocab_size, box):
    assert SudokuConfig(size=size).shape == (vocab_size, size**2, 1, Grid(size, size, box))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 5}, "4, 6 or 9"),
        ({"source": "web"}, "'embedded', 'generated_hard', 'csv', 'hub' or 'npy'"),
        ({"train": "a.csv"}, "train is for source csv, but source is embedded"),
        ({"source": "csv", "train": "a.csv"}, "needs train and test: test is missing"),
        ({"source": "npy"}, "needs path"),
        ({"source": "hub"}, "needs repo"),
        ({"source": "hub", "repo": "a/b", "size": 6}, "9x9 puzzles, but size is 6"),
        ({"source": "generated_hard", "size": 4}, "9x9 puzzles, but size is 4"),
        ({"source": "npy", "path": "x", "min_rating": 3}, "min_rating is for source generated_hard or csv"),
        ({"num_val": 0}, "greater than or equal to 1"),
        ({"num_aug": -1}, "greater than or equal to 0"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        SudokuConfig(**given)


def test_dump_and_load_round_trip():
    config = SudokuConfig(source="csv", train=Path("a.csv"), test=Path("b.csv"), num_aug=5)
    assert SudokuConfig.model_validate(config.model_dump(mode="json")) == config


def test_checking_easy_generated_puzzles_generates_none(monkeypatch):
    monkeypatch.setattr("trm.data.sudoku.generate.generate", None)
    SudokuConfig(size=9, seed=123).check()
