"""What is stored of a model, damaged in many ways: a CheckpointError or a model, and no other exception."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.trm.test_trained import CONFIG
from trm.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from trm.config import TrialConfig
from trm.model import build_model
from trm.stored import MAX_TOKENS
from trm.trained import CONFIG_FILE, WEIGHTS_FILE, export, load
from trm.trainer import train
from trm.trial import LocalTrial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`last`, a trial's checkpoint, and `out`, exported from it."""
    folder = tmp_path_factory.mktemp("run")
    train(CONFIG, LocalTrial(folder, seed=0, device="cpu"))
    export(load(folder / "last"), folder / "out")
    return folder


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys of everything in nested dicts."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def put(tree: Any, path: tuple[Any, ...], value: object) -> Any:
    """A copy with another value at this place; without the place, if the value is `LEFT_OUT`."""
    tree = copy.deepcopy(tree)
    *above, last = path
    parent = tree
    for key in above:
        parent = parent[key]
    if value is LEFT_OUT:
        parent.pop(last, None)
    else:
        parent[last] = value
    return tree


LEFT_OUT = object()
PLAIN: list[Any] = [None, True, -1, 0, 1, 3, 2**40, 10**400, 0.5, -1e308, 1e308, "", "x", "mamba_ssm", [], {}]
PLAIN += [[1], {"x": 1}, {"kind": "mlp"}, {"kind": "mamba2", "headdim": 4}, LEFT_OUT]
ONES = torch.ones(6, 16)  # as the output head's weights are
TENSORS: list[Tensor] = [
    ONES,
    torch.ones(()),
    ONES.int(),
    ONES.bool(),
    ONES.to(torch.complex64),
    ONES.to(torch.float8_e4m3fn),
    ONES.double() * 1e300,
    ONES.to_sparse(),
    ONES.to("meta"),
    torch.ones(1).expand(10**12, 16),
    torch.full((6, 16), torch.nan),
]
CONFIG_PLACES = sorted(places(json.loads(CONFIG.model_dump_json())))
STATE_PLACES = [
    *[(key,) for key in ("model", "ema", "chosen", "config", "step", "format")],
    *[("chosen", key) for key in ("step", "weights")],
    *[(*group, "lm_head.weight") for group in (("model",), ("ema",), ("chosen", "weights"))],
    ("chosen", "weights", "puzzle_emb.weights"),
    ("model", 5),
]
ABOUT_PLACES = [(key,) for key in ("format", "weights", "step", "knows_data", "origin", "config")]


def loads_or_is_refused(folder: Path, weights: Any = "chosen") -> None:
    try:
        load(folder, weights)
    except CheckpointError as error:
        assert str(folder) in str(error)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(STATE_PLACES), st.sampled_from(PLAIN + TENSORS), st.sampled_from(["chosen", "ema", "raw"])
)
def test_a_damaged_checkpoint(
    run: Path, tmp_path_factory: pytest.TempPathFactory, place: Any, value: Any, weights: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    state = load_checkpoint(run / "last", "cpu")
    save_checkpoint(folder, put(state, place, value))
    loads_or_is_refused(folder, weights)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(CONFIG_PLACES), st.sampled_from(PLAIN))
def test_a_damaged_config(
    run: Path, tmp_path_factory: pytest.TempPathFactory, place: Any, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    state = load_checkpoint(run / "last", "cpu")
    save_checkpoint(folder, state | {"config": json.dumps(put(json.loads(state["config"]), place, value))})
    loads_or_is_refused(folder)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ABOUT_PLACES), st.sampled_from(PLAIN))
def test_a_damaged_export(
    run: Path, tmp_path_factory: pytest.TempPathFactory, place: Any, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    about = json.loads((run / "out" / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(put(about, place, value)))
    (folder / WEIGHTS_FILE).write_bytes((run / "out" / WEIGHTS_FILE).read_bytes())
    loads_or_is_refused(folder)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "new", "its format is 'new', which must be a whole number"),
        (("format",), None, "its format is None"),
        (("model",), [1], r"model: must be a valid dictionary \(given list\)"),
        (("ema",), None, r"ema: must be a valid dictionary \(given NoneType\)"),
        (("chosen",), {}, r"chosen\.step: is missing"),
        (("chosen",), None, "does not hold the weights that were best on val"),
        (("step",), "5", r"step: must be a valid integer \(given str\)"),
        (("chosen", "weights", "lm_head.weight"), "x", "lm_head.weight is a str, but a weight is a tensor"),
        (("chosen", "weights", "lm_head.weight"), ONES.to_sparse(), "lm_head.weight is a sparse"),
        (("chosen", "weights", "lm_head.weight"), ONES.to("meta"), "or meta tensor"),
        (("chosen", "weights", "lm_head.weight"), ONES.int(), "is of int32; allowed are float32, float64"),
        (("chosen", "weights", "lm_head.weight"), ONES.bool(), "is of bool"),
        (("chosen", "weights", "lm_head.weight"), ONES.to(torch.complex64), "is of complex64"),
        (("chosen", "weights", "lm_head.weight"), ONES.double() * 1e300, "not finite"),
        (("chosen", "weights", "lm_head.weight"), LEFT_OUT, "its chosen weights lack lm_head.weight"),
        (("chosen", "weights", "puzzle_emb.weights"), torch.ones(1).expand(10**12, 16), "fewer values are"),
    ],
)
def test_the_message_names_what_is_damaged(
    run: Path, tmp_path: Path, place: tuple[str, ...], value: Any, message: str
) -> None:
    save_checkpoint(tmp_path, put(load_checkpoint(run / "last", "cpu"), place, value))
    with pytest.raises(CheckpointError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("origin", "key_prefix"), "x.", "origin.key_prefix: must be"),
        (("origin", "not_carried"), None, "origin.not_carried: must be a valid dictionary"),
        (("origin",), ["a"], "origin: must be a valid dictionary"),
        (("origin",), "a", "origin: must be a valid dictionary"),
        (("step",), "5", "step: must be a valid integer"),
        (("weights",), "best", "weights: must be 'chosen', 'ema', 'raw' or 'converted'"),
        (("config", "model", "hidden_size"), 2**20, "has the shape"),
        (("config", "train", "max_samples"), 10**400, "is too large"),
        (("config", "model", "puzzle_emb_len"), 2**40, f"at most {MAX_TOKENS} are loaded"),
        (("config", "model", "num_layers"), 10**9, "num_layers is 1000000000, which must be a whole"),
        (("config", "model", "h_layers"), 10**9, "h_layers is 1000000000, which must be a whole number"),
        (("config", "model", "num_layers"), 500.0, "num_layers is 500.0, which must be a whole number"),
        (("config", "model", "expansion"), 1e300, "no network can be made"),
        (("config", "model", "halt_bias"), 1e300, "no network can be made"),
    ],
)
def test_an_export_is_checked_before_anything_is_allocated(
    run: Path, tmp_path: Path, place: tuple[str, ...], value: Any, message: str
) -> None:
    about = json.loads((run / "out" / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(put(about, place, value)))
    (tmp_path / WEIGHTS_FILE).write_bytes((run / "out" / WEIGHTS_FILE).read_bytes())
    with pytest.raises(CheckpointError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_an_export_of_another_type_is_refused(run: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    (tmp_path / CONFIG_FILE).write_text((run / "out" / CONFIG_FILE).read_text())
    weights = load_file(run / "out" / WEIGHTS_FILE)
    save_file(weights | {"lm_head.weight": ONES.to(dtype)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=f"lm_head.weight is of {str(dtype)[6:]}; allowed are"):
        load(tmp_path)


def test_json_without_end_is_refused(run: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, load_checkpoint(run / "last", "cpu") | {"config": "[" * 10**6})
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path)


@pytest.mark.parametrize(
    "mixer",
    [
        {"kind": "mamba2", "headdim": 4, "backend": "mamba_ssm"},
        {"kind": "parallel", "mixers": [{"kind": "mamba", "backend": "mamba_ssm"}, {"kind": "mlp"}]},
    ],
)
def test_a_backend_that_is_not_here_becomes_auto(tmp_path: Path, mixer: dict[str, Any]) -> None:
    elsewhere = CONFIG.model_dump(mode="json")
    elsewhere["model"]["mixer"] = json.loads(json.dumps(mixer).replace("mamba_ssm", "auto"))
    config = TrialConfig.model_validate(elsewhere)
    elsewhere["model"]["mixer"] = mixer
    weights = dict(build_model(config, seed=0, device="cpu").state_dict())
    state = {"model": weights, "ema": {}, "step": 1, "config": json.dumps(elsewhere)}
    save_checkpoint(tmp_path, state)
    assert load(tmp_path, "raw").config == config
