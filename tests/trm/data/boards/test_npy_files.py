from __future__ import annotations

import json

import numpy as np
import pytest

from tests.trm.data.symmetry import random_symmetry
from trm.data.base import DataError
from trm.data.boards.npy_files import read_npy, write_npy
from trm.data.boards.rules import Puzzles
from trm.data.sudoku.rules import SudokuRules
from trm.data.sudoku.solver import solve


@pytest.fixture
def grouped(puzzles) -> Puzzles:
    """Ten 4x4 puzzles, each with two variants."""
    rng = np.random.default_rng(0)
    boards, solutions = (np.repeat(x[:10], 3, axis=0) for x in puzzles[4])
    boards, solutions = random_symmetry(boards, solutions, 4, rng)
    return Puzzles(boards, solutions, np.full(30, -1, np.int32), np.arange(11) * 3)


@pytest.fixture
def folder(grouped, tmp_path):
    for split in ("train", "test"):
        write_npy(tmp_path / "data", split, grouped, SudokuRules(4))
    return tmp_path / "data"


def test_the_files_are_the_references(folder, grouped):
    part = folder / "train"
    assert json.loads((folder / "identifiers.json").read_text()) == ["<blank>"]
    assert json.loads((part / "dataset.json").read_text()) == {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": 6,
        "seq_len": 16,
        "num_puzzle_identifiers": 1,
        "total_groups": 10,
        "mean_puzzle_examples": 1,
        "total_puzzles": 10,
        "sets": ["all"],
    }
    arrays = {path.name: np.load(path) for path in part.glob("*.npy")}
    assert sorted(arrays) == [
        "all__group_indices.npy",
        "all__inputs.npy",
        "all__labels.npy",
        "all__puzzle_identifiers.npy",
        "all__puzzle_indices.npy",
    ]
    assert (arrays["all__inputs.npy"] == grouped.boards + 1).all()
    assert (arrays["all__labels.npy"] == grouped.solutions + 1).all()
    assert arrays["all__inputs.npy"].dtype == np.uint8
    for name, expected in (
        ("puzzle_identifiers", [0] * 30),
        ("puzzle_indices", list(range(31))),
        ("group_indices", list(range(0, 31, 3))),
    ):
        assert arrays[f"all__{name}.npy"].tolist() == expected
        assert arrays[f"all__{name}.npy"].dtype == np.int32


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16])
def test_what_is_written_is_read_in_any_integer_type(folder, grouped, dtype):
    for path in (folder / "train").glob("*.npy"):
        np.save(path, np.load(path).astype(dtype))
    read = read_npy(folder, "train", SudokuRules(4))
    for field in ("boards", "solutions", "ratings", "groups"):
        assert (getattr(read, field) == getattr(grouped, field)).all()
    assert read.boards.dtype == np.uint8


def test_total_puzzles_may_be_absent_as_in_older_folders(folder, grouped):
    path = folder / "train" / "dataset.json"
    metadata = json.loads(path.read_text())
    del metadata["total_puzzles"]
    path.write_text(json.dumps(metadata))
    assert len(read_npy(folder, "train", SudokuRules(4))) == 30


def edit(name, change):
    def apply(part):
        path = part / f"all__{name}.npy"
        np.save(path, change(np.load(path)))

    return apply


def put(row, cell, value):
    def change(array):
        array = array.astype(np.int64)
        array[row, cell] = value
        return array

    return change


def metadata(key, value):
    def apply(part):
        path = part / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return apply


BAD = {
    "float": (edit("inputs", lambda a: a.astype(float)), "all__inputs.npy: dtype is float64"),
    "shape": (edit("inputs", lambda a: a[:, :9]), r"inputs.npy: shape is \(30, 9\)"),
    "pad": (edit("inputs", put(3, 5, 0)), "inputs.npy: row 3, cell 5 holds 0"),
    "negative": (edit("labels", put(3, 5, -2)), "labels.npy: row 3, cell 5 holds -2"),
    "blank label": (edit("labels", put(3, 5, 1)), "labels.npy: row 3, cell 5 holds 1"),
    "big": (edit("inputs", put(29, 15, 300)), "row 29, cell 15 holds 300; allowed are 1 to 5"),
    "rows": (edit("labels", lambda a: a[:-1]), "29 rows, but all__inputs.npy has 30"),
    "ids": (edit("puzzle_identifiers", lambda a: a + 1), "must be 30 zeros.*largest value 1"),
    "id rows": (edit("puzzle_identifiers", lambda a: a[1:]), r"must be 30 zeros.*\(29,\)"),
    "puzzle indices": (edit("puzzle_indices", lambda a: a[::2]), "15 puzzles for 30 rows"),
    "group end": (edit("group_indices", lambda a: a[:-1]), "group_indices.npy: must rise from 0 to the 30"),
    "group order": (edit("group_indices", lambda a: a[[0, 2, 1, *range(3, 11)]]), "must rise"),
    "groups": (edit("group_indices", lambda a: a[[0, *range(2, 11)]]), "row 3 is not a symmetry of row 0"),
    "answers": (edit("labels", lambda a: a[::-1]), "inputs.npy: row 0: .* contradicts the answer"),
    "empty": (edit("inputs", lambda a: a[:0]), "contains no puzzle"),
    "object": (
        lambda p: np.save(p / "all__inputs.npy", np.array([None]), allow_pickle=True),
        "is not an npy",
    ),
    "torn": (lambda p: (p / "all__labels.npy").write_bytes(b"\x93NUMPY"), "labels.npy: is not an npy file"),
    "archive": (
        lambda p: np.savez((p / "all__inputs.npy").open("wb"), a=[1]),
        "inputs.npy: is not an npy file",
    ),
    "header": (
        lambda p: (p / "all__labels.npy").write_bytes(
            (p / "all__labels.npy").read_bytes().replace(b"16)", b"16 ")
        ),
        "labels.npy: is not an npy file",
    ),
    "missing": (lambda p: (p / "all__labels.npy").unlink(), "labels.npy: no such file"),
    "no metadata": (lambda p: (p / "dataset.json").unlink(), "dataset.json: cannot be read"),
    "metadata": (lambda p: (p / "dataset.json").write_text("{"), "dataset.json: is not JSON"),
    "list": (lambda p: (p / "dataset.json").write_text("[]"), "must be a JSON object"),
    "vocabulary": (metadata("vocab_size", 11), "vocab_size is 11, but 4x4 Sudoku has 6: set size"),
    "length": (metadata("seq_len", 81), "seq_len is 81, but 4x4 Sudoku has 16"),
    "sets": (metadata("sets", ["all", "more"]), r"sets is \['all', 'more'\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_refused(folder, name):
    damage, message = BAD[name]
    damage(folder / "train")
    with pytest.raises(DataError, match=message) as raised:
        read_npy(folder, "train", SudokuRules(4))
    assert str(raised.value).startswith(str(folder / "train"))


def test_a_second_solution_is_searched_for_once_a_group(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "trm.data.sudoku.rules.solve", lambda boards, size: asked.append(len(boards)) or solve(boards, size)
    )
    path = folder / "train" / "all__inputs.npy"
    inputs = np.load(path)
    inputs[6:9] = 1  # group 2
    np.save(path, inputs)
    read = read_npy(folder, "train", SudokuRules(4))
    with pytest.raises(DataError, match=r"all__inputs\.npy: row 6: the puzzle \.{16} has more than one"):
        SudokuRules(4).check_answers(read)
    assert asked == [10]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere/train: no such folder: .*prepare"):
        read_npy(tmp_path / "nowhere", "train", SudokuRules(9))
