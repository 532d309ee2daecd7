"""What the trainer needs of a task; a new one is tested by being in TASKS, at its class's `small` values."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from trm.config import TrialConfig
from trm.data import TASKS, AnyTaskConfig, TaskConfig
from trm.data.base import Split, TaskData
from trm.trainer import train
from trm.trial import LocalTrial

SPLITS = ("train", "val", "test")


def small(task: str) -> TaskConfig:
    return TASKS[task](**TASKS[task].small)


@pytest.fixture(params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture
def data(task) -> TaskData:
    return small(task).load()


def parts(data: TaskData) -> dict[str, Split]:
    return {split: getattr(data, split) for split in SPLITS}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_is_registered_under_its_name_and_described(task):
    assert TASKS[task].model_fields["task"].default == task
    assert TASKS[task].__doc__ != TaskConfig.__doc__


def test_a_config_survives_its_yaml(task):
    config = small(task)
    again = TypeAdapter(AnyTaskConfig).validate_python(config.model_dump(mode="json"))
    assert again == config and type(again) is TASKS[task]


def test_rows_have_the_shape_that_the_config_says(task, data):
    vocab_size, seq_len, identifiers, grid = small(task).shape
    assert vocab_size <= 256, "a token is a uint8"
    assert identifiers == 1
    assert grid is None or grid.rows * grid.cols == seq_len
    for name, rows in parts(data).items():
        count = len(rows.inputs)
        assert count > 0, name
        for tokens in (rows.inputs, rows.labels):
            assert tokens.shape == (count, seq_len) and tokens.dtype == torch.uint8, name
            assert tokens.max() < vocab_size, name
            assert tokens.device.type == "cpu"
        assert (rows.labels != 0).any(dim=1).all(), f"{name}: a row whose labels are all 0 teaches nothing"
        assert rows.ratings.shape == (count,) and rows.ratings.dtype == torch.int32, name


def test_every_row_of_train_is_in_a_group(data):
    assert data.groups.dtype == torch.int64
    assert data.groups[0] == 0 and data.groups[-1] == len(data.train.inputs)
    assert (data.groups.diff() > 0).all()


def test_no_row_is_in_two_splits(data):
    rows = {name: set(map(tuple, split.inputs.tolist())) for name, split in parts(data).items()}
    assert not rows["train"] & rows["val"] and not (rows["train"] | rows["val"]) & rows["test"]


def test_the_config_is_the_data(task, data, empty_cache):
    again = small(task).load()
    assert again.hash == data.hash
    for name, split in parts(data).items():
        for one, other in zip(split, getattr(again, name), strict=True):
            assert torch.equal(one, other), name
    assert torch.equal(again.groups, data.groups)


def test_the_hash_is_of_the_data(task, data):
    assert data.hash == TaskData.of(data.train, data.val, data.test, data.groups).hash
    assert small(task).check() in (None, data.hash)


def test_augmentation_keeps_the_shape_and_what_the_loss_ignores(task, data):
    inputs, labels = data.train.inputs, data.train.labels.clone()
    labels[:, ::2] = 0
    labels[:, 0] = data.train.labels[:, 0]
    mapped = data.augment(inputs, labels, seeded())
    for one, other in zip(mapped, (inputs, labels), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        assert one.max() < small(task).shape.vocab_size
    assert torch.equal((mapped[1] == 0).sum(dim=1), (labels == 0).sum(dim=1))
    again = data.augment(inputs, labels, seeded())
    assert all(torch.equal(one, other) for one, other in zip(mapped, again, strict=True))


def test_buckets_of_ratings_rise(task):
    bounds = small(task).rating_bounds
    assert bounds[0] >= 0 and all(low < high for low, high in pairwise(bounds))


def test_a_trial_trains_to_its_end(task, tmp_path):
    tree: dict[str, Any] = {
        "model": {
            "hidden_size": 16, "num_layers": 1, "h_cycles": 1, "l_cycles": 1, "halt_max_steps": 2,
            "puzzle_emb_len": 1, "mixer": {"kind": "mlp"},
        },
        "data": {"task": task, **TASKS[task].small},
        "optim": {"lr_warmup_steps": 1},
        "train": {"batch_size": 8, "max_samples": 32},
        "eval": {"every_samples": 16, "batch_size": 16, "depth_steps": 4},
    }  # fmt: skip
    trial = LocalTrial(tmp_path, 0, "cpu")
    train(TrialConfig.model_validate(tree), trial)
    last = trial.history[-1]
    assert last["samples"] == 32 and all(math.isfinite(value) for value in last.values())
    assert {"val/loss", "val/exact_accuracy", "test/exact_accuracy"} <= last.keys()


def test_a_task_has_defaults_for_what_it_does_not_have():
    """Rows alone make a task: each is a puzzle of its own, unrated, and no symmetry is known."""
    tokens = torch.arange(1, 13, dtype=torch.uint8).reshape(4, 3)
    rows = [Split.unrated(each, each.flip(1)) for each in tokens.split([2, 1, 1])]
    data = TaskData.of(*rows)
    assert data.groups.tolist() == [0, 1, 2]
    assert data.train.ratings.tolist() == [-1, -1]
    assert data.augment(*data.train[:2], seeded()) == data.train[:2]
    other = TaskData.of(rows[0], rows[2], rows[1])
    grouped = TaskData.of(*rows, groups=torch.tensor([0, 2]))
    assert len({data.hash, other.hash, grouped.hash}) == 3
