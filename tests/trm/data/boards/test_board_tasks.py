"""What a task of boards must hold to beyond `test_any_task`; a new one is tested by being in TASKS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.trm.data.test_any_task import parts, seeded
from trm.data import TASKS
from trm.data.base import TaskData
from trm.data.boards.cli import main
from trm.data.boards.config import PuzzleConfig
from trm.data.boards.rules import Puzzles
from trm.data.boards.splits import load_splits

BOARDS = {name: cls for name, cls in TASKS.items() if issubclass(cls, PuzzleConfig)}
COUNTS = {split: PuzzleConfig.small[f"num_{split}"] for split in ("train", "val", "test")}
HASHES = {  # of the data below: whoever changes what a seed gives, changes every sweep's data
    "sudoku": "5ae24595fa42d1c8f824589dd62b26dd6611ce10656f3924e1fbb109fb2484e8",
    "maze": "dda20ffce619592a2d1d10ea7b09eddf28805f75836be6790fd4cf1ec9b67ed2",
}


def small(task: str, **given: Any) -> PuzzleConfig:
    return BOARDS[task](**(BOARDS[task].small | given))


@pytest.fixture(params=BOARDS)
def task(request) -> str:
    return request.param


@pytest.fixture
def data(task) -> TaskData:
    return small(task).load()


def puzzles_of(config: PuzzleConfig, inputs: torch.Tensor, labels: torch.Tensor) -> Puzzles:
    boards, solutions = (tokens.numpy() - np.uint8(1) for tokens in (inputs, labels))
    return Puzzles.single(boards, solutions, np.full(len(boards), -1, np.int32))


def test_boards_are_full_and_as_many_as_the_config_says(task, data):
    _, seq_len, _, grid = small(task).shape
    assert grid.rows * grid.cols == seq_len
    for split, rows in parts(data).items():
        assert len(rows.inputs) == COUNTS[split]
        assert rows.inputs.min() >= 1  # 0 pads, and boards are full
        assert rows.labels.min() >= 1  # 0 would be ignored by the loss
        assert (rows.inputs != rows.labels).any(dim=1).all()
    assert data.groups.tolist() == list(range(COUNTS["train"] + 1))


@pytest.mark.parametrize("name", HASHES)
def test_a_seed_gives_what_it_gave(name, empty_cache):
    assert small(name).load().hash == HASHES[name]


def test_every_board_task_has_its_hash_here():
    assert set(HASHES) == set(BOARDS), "add the hash of the new task's small data to HASHES"


def test_the_hash_is_of_the_data_alone(task, data):
    assert small(task, num_aug=7).load().hash == data.hash != small(task, seed=1).load().hash


def test_no_class_is_in_two_splits(task):
    config = small(task)
    splits = load_splits(config)
    classes = [set(config.rules.keys(part).tolist()) for part in splits.parts.values()]
    assert len(set.union(*classes)) == sum(COUNTS.values())
    more = load_splits(small(task, num_train=60))
    assert (more.val.boards == splits.val.boards).all() and (more.test.boards == splits.test.boards).all()


def test_a_symmetry_moves_inputs_and_labels_alike(task, data):
    """Where a label says what the input says already, it still does, and the puzzle is of its class."""
    config, rows = small(task), data.train
    augment = config.augment(None)
    inputs, labels = augment(rows.inputs, rows.labels, seeded())
    assert inputs.dtype == labels.dtype == torch.uint8
    assert torch.equal(inputs, augment(rows.inputs, rows.inputs, seeded())[1])
    assert torch.equal(labels, augment(rows.labels, rows.labels, seeded())[0])
    assert not torch.equal(inputs, rows.inputs)
    mapped = puzzles_of(config, inputs, labels)
    config.rules.checked(mapped)
    config.rules.check_answers(mapped)
    original = puzzles_of(config, rows.inputs, rows.labels)
    assert (config.rules.keys(mapped) == config.rules.keys(original)).all()


def test_pads_stay_pads(task):
    config = small(task)
    rows = torch.zeros(30, config.shape.seq_len, dtype=torch.uint8)
    inputs, labels = config.augment(None)(rows, rows, seeded())
    assert not inputs.any() and not labels.any()


@pytest.mark.parametrize("num_aug", [None, 0, 3])
def test_the_generator_decides_which_symmetry(task, data, num_aug):
    rows, augment = data.train, small(task).augment(num_aug)
    first, again, other = (augment(rows.inputs, rows.labels, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (num_aug == 0)


def test_fixed_variants_are_few(task, data):
    augment, row = small(task).augment(2), data.train.inputs[:1].expand(200, -1)
    seen = torch.unique(augment(row, row, seeded())[0], dim=0)
    assert 2 <= len(seen) <= 3
    assert (seen == row[0]).all(dim=1).any()


@pytest.mark.parametrize("form", ["csv", "npy"])
def test_what_is_prepared_is_read_back(task, form, tmp_path, capsys):
    config = small(task)
    size, out = ["--size", str(config.size)], tmp_path / "out"
    counts = [word for split, count in COUNTS.items() for word in (f"--num-{split}", str(count))]
    assert main(BOARDS[task], ["prepare", *size, *counts, "--format", form, "--out", str(out)]) == 0
    files = {split: out / f"{split}.csv" for split in COUNTS} if form == "csv" else {"path": out}
    paths = list(files.values())
    assert main(BOARDS[task], ["check", *size, *map(str, paths)]) == 0
    assert f"all valid, {config.rules.claim}" in capsys.readouterr().out
    read = load_splits(BOARDS[task](source=form, size=config.size, **files))
    for name, part in load_splits(config).parts.items():
        assert (getattr(read, name).boards == part.boards).all()
        assert (getattr(read, name).solutions == part.solutions).all()
    assert main(BOARDS[task], ["inspect", "--source", form, *size, *_options(files)]) == 0
    assert "classes in both train and test: 0" in capsys.readouterr().out


def _options(files: dict[str, Any]) -> list[str]:
    return [word for key, path in files.items() for word in (f"--{key}", str(path))]
