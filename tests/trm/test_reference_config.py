"""What a reference's all_config.yaml says of task, size and training, and what is written for its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.trm.test_reference import hrm_checkpoint, recorded
from trm.checkpoint import CheckpointError
from trm.config import TrialConfig
from trm.model import build_model
from trm.reference import read_reference, write_reference
from trm.reference_config import ALL_CONFIG, all_config

ATTENTION = "reference_checkpoint_attention"
MAZE = {  # nothing in these weights is as long as the sequence
    "model": {"hidden_size": 16, "puzzle_emb_len": 1, "mixer": {"kind": "attention", "num_heads": 2}},
    "data": {"task": "maze", "size": 7},
}


def weights_of(config: TrialConfig) -> dict[str, Tensor]:
    return dict(build_model(config, seed=0, device="cpu").state_dict())


def written(folder: Path, content: dict[str, Any]) -> tuple[Path, TrialConfig]:
    config = TrialConfig.model_validate(content)
    write_reference(folder / "step_1", config, weights_of(config))
    return folder / "step_1", config


def changed(path: Path, changes: dict[str, Any], arch: dict[str, Any] | None = None) -> Path:
    """`path`, after changes to the config beside it; None removes a key."""
    file = path.parent / ALL_CONFIG
    tree = yaml.safe_load(file.read_text())
    tree |= changes | {"arch": tree["arch"] | (arch or {})}
    file.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
    return path


NAMELESS = {"data_path": None, "data_paths": None, "seq_len": None}


@pytest.mark.parametrize("key", ["data_path", "data_paths"])
@pytest.mark.parametrize(
    ("name", "task"),
    [
        *(("data/maze-4x4", "maze"), ("data/Maze-4x4-1k/", "maze"), ("data/maze/4x4", "maze")),
        *(("data/sudoku-4x4", "sudoku"), ("/home/amaze/sudoku", "sudoku"), ("/mazes/my-sudoku", "sudoku")),
    ],
)
def test_the_task_is_the_one_that_the_data_are_named_after(
    key: str, name: str, task: str, tmp_path: Path
) -> None:
    """In HRM's key and in TRM's, of weights that fit both tasks."""
    value = name if key == "data_path" else [name]
    path = changed(hrm_checkpoint(tmp_path), NAMELESS | {key: value})
    data = read_reference(path)[0].data
    assert (data.task, data.shape.seq_len) == (task, 16)


@pytest.mark.parametrize("cells", [16, 81])
def test_sudoku_needs_no_name(cells: int, tmp_path: Path) -> None:
    path = hrm_checkpoint(tmp_path) if cells == 16 else recorded(ATTENTION, tmp_path)
    data = read_reference(changed(path, NAMELESS))[0].data
    assert (data.task, data.shape.seq_len) == ("sudoku", cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_path": "/search/amazed"}, r"does not say what 6 symbols stand for.*\[sudoku\]"),
        ({"data_paths": ["maze-4x4", "sudoku-4x4"]}, "only Sudoku or mazes, one of them"),
        ({"data_paths": ["maze-sudoku-4x4"]}, "only Sudoku or mazes, one of them"),
        ({"data_paths": ["data/arc1concept-aug-1000"]}, "only Sudoku or mazes, one of them"),
    ],
)
def test_a_task_that_cannot_be_told_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = changed(hrm_checkpoint(tmp_path), NAMELESS | changes)
    with pytest.raises(CheckpointError, match=message):
        read_reference(path)


def test_mazes_have_six_symbols(tmp_path: Path) -> None:
    path = changed(recorded(ATTENTION, tmp_path), {"data_paths": ["data/maze-30x30-hard-1k"]})
    with pytest.raises(CheckpointError, match=r"mazes .* 6 symbols, but the weights have 11"):
        read_reference(path)


def test_the_size_of_mazes_survives_the_reference(tmp_path: Path) -> None:
    path, config = written(tmp_path, MAZE)
    tree = yaml.safe_load((tmp_path / ALL_CONFIG).read_text())
    assert tree["seq_len"] == 49 and "seq_len" not in tree["arch"]
    assert read_reference(path)[0].data.shape == config.data.shape
    changed(path, {"seq_len": None})
    assert read_reference(path)[0].data.shape.seq_len == 49  # by the name data/maze-7x7
    changed(path, {"data_paths": ["data/maze-30x30-hard-1k"]})
    assert read_reference(path)[0].data.shape.seq_len == 900
    assert read_reference(path, size=7)[0].data.shape.seq_len == 49
    changed(path, {"data_paths": ["data/mazes"]})
    with pytest.raises(CheckpointError, match="--size N"):
        read_reference(path)
    with pytest.raises(CheckpointError, match=r"size.* 64 \(given 65\)"):
        read_reference(path, size=65)
    changed(path, {"data_paths": ["data/mazes"], "seq_len": 50})
    with pytest.raises(CheckpointError, match="50 by seq_len"):
        read_reference(path)


@pytest.mark.parametrize("model", [{"pos_encodings": "learned"}, {"mixer": {"kind": "mlp"}}])
def test_weights_as_long_as_the_sequence_say_the_size(model: dict[str, Any], tmp_path: Path) -> None:
    path, _ = written(tmp_path, MAZE | {"model": MAZE["model"] | model})
    changed(path, {"seq_len": None, "data_paths": ["data/maze-30x30-hard-1k"]})
    assert read_reference(path)[0].data.shape.seq_len == 49
    with pytest.raises(CheckpointError, match=r"49 by .* of the weights.*, 900 by --size"):
        read_reference(path, size=30)


def test_hrm_halts_and_has_slots_as_its_code_says(tmp_path: Path) -> None:
    """HRM's code has neither of these keys, and ignores them."""
    path = changed(hrm_checkpoint(tmp_path), {}, {"no_ACT_continue": True, "puzzle_emb_len": 16})
    model = read_reference(path)[0].model
    assert (model.act, model.puzzle_emb_len) == ("continue", 1)


def test_the_recipe_is_carried(tmp_path: Path) -> None:
    recipe = {"beta1": 0.8, "beta2": 0.9, "lr_warmup_steps": 17, "lr": 3e-4, "global_batch_size": 99}
    arch = {"forward_dtype": "float32", "loss": {"name": "x", "loss_type": "softmax_cross_entropy"}}
    config, _, origin = read_reference(changed(recorded(ATTENTION, tmp_path), recipe, arch))
    assert config.optim.betas == (0.8, 0.9) and config.optim.lr == 3e-4
    assert (config.optim.lr_warmup_steps, config.train.batch_size) == (17, 99)
    assert (config.train.precision, config.loss.kind) == ("float32", "softmax")
    assert not origin["not_carried"].keys() & {*recipe, "arch.forward_dtype", "arch.loss.loss_type"}


@pytest.mark.parametrize(
    ("changes", "arch"),
    [
        *(({"lr": value}, {}) for value in (0, -1, "fast", float("nan"), [1])),
        *(({key: value}, {}) for key, value in {"puzzle_emb_lr": 0, "beta1": 1, "ema_rate": 1}.items()),
        ({"global_batch_size": 0}, {}),
        ({"lr_warmup_steps": 10**9}, {}),
        ({}, {"halt_exploration_prob": 2}),
        ({}, {"forward_dtype": "float16"}),
        ({}, {"causal": False}),
        ({}, {"loss": {"name": "losses@ACTLossHead", "loss_type": "focal"}}),
    ],
)
def test_no_setting_of_the_training_blocks_a_conversion(
    changes: dict[str, Any], arch: dict[str, Any], tmp_path: Path
) -> None:
    """What this project refuses is kept beside the config."""
    _, _, before = read_reference(recorded(ATTENTION, tmp_path))
    _, _, origin = read_reference(changed(tmp_path / "step_5", changes, arch))
    (key,) = origin["not_carried"].keys() - before["not_carried"].keys()
    name = next(iter(changes), None) or f"arch.{next(iter(arch))}"
    assert key.startswith(name)


@pytest.mark.parametrize(("warmup", "carried"), [(100, 100), (2000, 0)])
def test_a_warm_up_longer_than_a_run_of_large_batches_is_left_out(
    warmup: int, carried: int, tmp_path: Path
) -> None:
    recipe = {"global_batch_size": 100_000, "lr_warmup_steps": warmup}
    config, _, origin = read_reference(changed(recorded(ATTENTION, tmp_path), recipe))
    assert (config.train.batch_size, config.optim.lr_warmup_steps) == (100_000, carried)
    assert origin["not_carried"].get("lr_warmup_steps", carried) == warmup


def test_the_embedding_may_be_narrower_than_its_slots(tmp_path: Path) -> None:
    path = recorded(ATTENTION, tmp_path)
    weights = torch.load(path, weights_only=True)
    weights["_orig_mod.model.inner.puzzle_emb.weights"] = torch.ones(2, 41)
    torch.save(weights, path)
    model = read_reference(changed(path, {}, {"puzzle_emb_ndim": 41, "puzzle_emb_len": 0}))[0].model
    assert model.puzzle_emb_len == 2
    with pytest.raises(CheckpointError, match=r"puzzle_emb_len is 1: .* takes 2 of hidden_size 32"):
        read_reference(changed(path, {}, {"puzzle_emb_ndim": 41, "puzzle_emb_len": 1}))


REQUIRED = (  # by PretrainConfig of both codes' pretrain.py, beside the data's key
    *("arch", "global_batch_size", "epochs", "lr", "lr_min_ratio", "lr_warmup_steps", "weight_decay"),
    *("beta1", "beta2", "puzzle_emb_lr", "puzzle_emb_weight_decay"),
)
FROM_THE_DATA = {"batch_size", "vocab_size", "seq_len", "num_puzzle_identifiers", "causal"}


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ({}, "data_paths"),
        ({"networks": "separate", "gradient": "one_step", "act": "continue"}, "data_path"),
    ],
)
def test_what_is_written_has_all_that_the_references_code_requires(model: dict[str, Any], key: str) -> None:
    """And nothing in arch that its create_model passes itself, which would be an error there."""
    config = TrialConfig.model_validate(MAZE | {"model": MAZE["model"] | model})
    content = all_config(config, weights_of(config), {})
    assert not {*REQUIRED, key} - content.keys()
    assert isinstance(content["epochs"], int) and content["epochs"] == 50_000
    assert content[key] == ("data/maze-7x7" if key == "data_path" else ["data/maze-7x7"])
    assert not content["arch"].keys() & FROM_THE_DATA
    assert {"name", "loss", "H_layers", "forward_dtype", "puzzle_emb_ndim"} <= content["arch"].keys()
