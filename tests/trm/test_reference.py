"""The reference's checkpoints there and back, and what is no such checkpoint."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import ROOT
from tests.recorder_hrm import record_hrm
from tests.replay import relative_error
from trm.__main__ import main
from trm.checkpoint import CheckpointError
from trm.config import TrialConfig
from trm.model import build_model
from trm.reference import PREFIX, read_reference, write_reference
from trm.reference_config import ALL_CONFIG
from trm.trained import Trained, export, load
from trm.use import from_reference

GOLDEN = ROOT / "tests" / "golden"
CHECKPOINTS = (
    "reference_checkpoint_attention",
    "reference_checkpoint_mlp",
    "reference_checkpoint_uncompiled",
)


def recorded(name: str, folder: Path) -> Path:
    """The recorded file as step_5, with its config beside it."""
    lines = json.loads((GOLDEN / f"{name}.json").read_text())["all_config_yaml"]
    (folder / ALL_CONFIG).write_text("\n".join(lines) + "\n")
    path = folder / "step_5"
    path.write_bytes((GOLDEN / f"{name}.pt").read_bytes())
    return path


def stored(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_there_and_back_gives_the_same_file(name: str, tmp_path: Path) -> None:
    path = recorded(name, tmp_path)
    trained = from_reference(path)
    back = tmp_path / "back" / "step_5"
    weights = dict(trained.model.state_dict())
    write_reference(back, trained.config, weights, trained.origin)
    first, second = stored(path), stored(back)
    assert first.keys() == second.keys()
    for key, weight in first.items():
        assert torch.equal(weight, second[key]) and weight.dtype == second[key].dtype
    given, written = (yaml.safe_load((p.parent / ALL_CONFIG).read_text()) for p in (path, back))
    same = given["arch"].keys() - {"num_heads"}  # the MLP has none
    assert {key: written["arch"][key] for key in same} == {key: given["arch"][key] for key in same}
    same = {key for key, value in given.items() if value not in (None, [])} - {"arch"}
    assert {key: written[key] for key in same} == {key: given[key] for key in same}
    assert read_reference(back)[0] == trained.config


def hrm_checkpoint(folder: Path) -> Path:
    """The recorded HRM's first weights as HRM's code would save them."""
    case = json.loads((GOLDEN / "hrm_attention.json").read_text())
    with np.load(GOLDEN / "hrm_attention.npz") as arrays:
        weights = {
            f"{PREFIX}{name.removeprefix('init/inner.')}": torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("init/inner.")
        }
    name = "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"
    config = {"arch": case["config"] | {"name": name}, "data_path": "data/sudoku-4x4"}
    (folder / ALL_CONFIG).write_text(yaml.safe_dump(config))
    path = folder / "step_1"
    torch.save(weights, path)
    return path


def test_hrm_is_converted_too(tmp_path: Path) -> None:
    path = hrm_checkpoint(tmp_path)
    trained = from_reference(path)
    model = trained.config.model
    assert (model.networks, model.gradient, model.act) == ("separate", "one_step", "continue")
    write_reference(
        tmp_path / "back" / "step_1", trained.config, dict(trained.model.state_dict()), trained.origin
    )
    written = yaml.safe_load((tmp_path / "back" / ALL_CONFIG).read_text())
    assert written["arch"]["name"] == "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"
    assert written["data_path"] == "data/sudoku-4x4"
    first, second = stored(path), stored(tmp_path / "back" / "step_1")
    assert first.keys() == second.keys()
    assert all(torch.equal(weight, second[key].float()) for key, weight in first.items())


@pytest.mark.parametrize(("h_layers", "l_layers"), [(3, 1), (1, 2)])
def test_hrm_with_two_depths_is_converted(tmp_path: Path, h_layers: int, l_layers: int) -> None:
    """There and back, predicted with and evaluated; its networks are told apart by the reference's names."""
    name = record_hrm(tmp_path / "hrm", H_layers=h_layers, L_layers=l_layers)
    arch = json.loads(name.with_suffix(".json").read_text())["config"]
    with np.load(name.with_suffix(".npz")) as arrays:
        weights = {
            f"{PREFIX}{key.removeprefix('init/inner.')}": torch.from_numpy(arrays[key])
            for key in arrays.files
            if key.startswith("init/")
        }
        boards, logits = (torch.from_numpy(arrays[key]) for key in ("step0/inputs", "step0/logits"))
    config = {"arch": arch | {"name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"}}
    (tmp_path / ALL_CONFIG).write_text(yaml.safe_dump(config | {"data_path": "data/sudoku-4x4"}))
    torch.save(weights, tmp_path / "step_1")
    trained = from_reference(tmp_path / "step_1")
    model = trained.config.model
    assert (model.num_layers, model.depths) == (l_layers, (l_layers, h_layers))
    export(trained, tmp_path / "exported")
    model = load(tmp_path / "exported").model
    with torch.no_grad():
        _, output = model(model.initial_carry(len(boards), "cpu"), boards, boards)
    assert relative_error(output.logits, logits) < 1e-5
    (tmp_path / "boards.csv").write_text("question,answer\n1234341221434321,1234341221434321\n")
    assert main(["predict", str(tmp_path / "exported"), str(tmp_path / "boards.csv")]) == 0
    assert main(["evaluate", str(tmp_path / "exported"), "--data", str(tmp_path / "boards.csv")]) == 0
    write_reference(
        tmp_path / "back" / "step_1", trained.config, dict(trained.model.state_dict()), trained.origin
    )
    written = yaml.safe_load((tmp_path / "back" / ALL_CONFIG).read_text())["arch"]
    assert (written["H_layers"], written["L_layers"]) == (h_layers, l_layers)
    first, second = stored(tmp_path / "step_1"), stored(tmp_path / "back" / "step_1")
    assert first.keys() == second.keys()
    assert all(torch.equal(weight, second[key].float()) for key, weight in first.items())


def test_learned_positions_are_converted(tmp_path: Path) -> None:
    """Written from our model, as no recording has them."""
    config = TrialConfig.model_validate(
        {
            "model": {"hidden_size": 16, "pos_encodings": "learned", "puzzle_emb_len": 2}
            | {"mixer": {"kind": "attention", "num_heads": 2}},
            "data": {"size": 6},
        }
    )
    model = build_model(config, seed=0, device="cpu")
    write_reference(tmp_path / "step_1", config, dict(model.state_dict()))
    arch = yaml.safe_load((tmp_path / ALL_CONFIG).read_text())["arch"]
    assert (arch["pos_encodings"], arch["forward_dtype"]) == ("learned", "float32")
    trained = from_reference(tmp_path / "step_1")
    assert trained.config.model == config.model and trained.config.data.shape.seq_len == 36
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


HRM = {"networks": "separate", "gradient": "one_step", "act": "continue", "puzzle_emb_len": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixer": {"kind": "mamba2", "headdim": 4}}, "no model.mixer.kind mamba2"),
        ({"mixer": {"kind": "attention", "num_heads": 2, "head_dim": 4}}, "no model.mixer.head_dim"),
        ({"mixer": {"kind": "mlp", "expansion": 2.0}}, "no model.mixer.expansion"),
        ({"latents": "single"}, "no model.latents single"),
        ({"act": "none"}, "no model.act none"),
        ({"gradient": "one_step"}, "one_step with shared networks"),
        ({"swiglu": "conv"}, "model.swiglu conv"),
        ({"damping": 0.5}, "model.damping 0.5"),
        (HRM | {"mixer": {"kind": "mlp"}}, "no model.mixer.kind mlp with separate"),
        (HRM | {"pos_encodings": "none"}, "no model.pos_encodings none with separate"),
        (HRM | {"act": "halt"}, "no model.act halt with separate"),
        (HRM | {"puzzle_emb_len": 2}, "no model.puzzle_emb_len 2 with separate networks, but 1"),
    ],
)
def test_a_network_that_the_reference_lacks_is_not_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    fields = {"hidden_size": 16, "mixer": {"kind": "attention", "num_heads": 2}} | change
    config = TrialConfig.model_validate({"model": fields, "data": {"size": 4}})
    weights = dict(build_model(config, seed=0, device="cpu").state_dict())
    with pytest.raises(CheckpointError, match=message):
        write_reference(tmp_path / "out" / "step_1", config, weights)
    assert not (tmp_path / "out").exists()


def without(key: str) -> Any:
    return lambda weights: weights.pop(f"{PREFIX}{key}")


def having(key: str, value: object) -> Any:
    return lambda weights: weights.update({f"{PREFIX}{key}": value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("L_level.layers.1.mlp.down_proj.weight"), "lacks the weight block.layers.1.mlp.down_proj"),
        (without("H_init"), "has no weight H_init"),
        (without("lm_head.weight"), "is not a checkpoint of the reference"),
        (
            having("block.layers.0.mlp.down_proj.weight", torch.ones(1)),
            "two of its names are of the same weight",
        ),
        (having("extra", torch.ones(1)), "has a weight that the network lacks, extra"),
        (lambda weights: weights.update({"extra": torch.ones(1)}), "'extra' is no weight"),
        (lambda weights: weights.update({7: torch.ones(1)}), "7 is a int, but a weight's name is a string"),
        (having("lm_head.weight", torch.ones(11, 3)), r"has the shape \(11, 3\)"),
        (having("embed_tokens.embedding_weight", torch.ones(12, 32)), "has 12 symbols; known are"),
        (having("embed_tokens.embedding_weight", torch.ones(11)), r"embed_tokens\S+ has the shape \(11,\)"),
        (having("puzzle_emb.weights", torch.ones(0, 32)), r"puzzle_emb.weights has the shape \(0, 32\)"),
        (having("puzzle_emb.weights", torch.ones(1, 32).to_sparse()), "is a sparse, nested or meta tensor"),
        (having("H_init", torch.ones(32, device="meta")), "is a sparse, nested or meta tensor"),
        (having("H_init", torch.tensor(1.0)), r"H_init has the shape \(\)"),
        (having("H_init", [1.0] * 32), "is a list, but a weight"),
        (having("H_init", torch.ones(32, dtype=torch.int64)), "is of int64; allowed are"),
        (having("H_init", torch.ones(32, dtype=torch.bool)), "is of bool; allowed are"),
        (having("H_init", torch.ones(32, dtype=torch.complex64)), "is of complex64; allowed are"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = recorded("reference_checkpoint_attention", tmp_path)
    weights = stored(path)
    change(weights)
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=message):
        from_reference(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1", "has no mapping `arch`"),
        ("arch: {hidden_size: 32, L_layers: 2, puzzle_emb_ndim: 32}", "arch has no 'expansion'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = recorded("reference_checkpoint_attention", tmp_path)
    (tmp_path / ALL_CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        from_reference(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("hidden_size", "wide"), ("hidden_size", 10**15), ("num_heads", 5), ("num_heads", "few")),
        *(("pos_encodings", "spiral"), ("L_layers", 0), ("L_layers", 10**12), ("expansion", 1e300)),
        *(("expansion", 400), ("expansion", "big"), ("rms_norm_eps", 1e-6)),
        *(("puzzle_emb_ndim", ndim) for ndim in (-32, 0, 31, 33, 10**12, "wide")),
        *(("puzzle_emb_len", length) for length in (-1, 10**12, "long", None)),
        *(("seq_len", length) for length in (80, 10**12, -81, "long")),
        ("name", "recursive_reasoning.trm_singlez@TinyRecursiveReasoningModel_ACTV1"),
    ],
)
def test_a_value_that_no_network_has_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = recorded("reference_checkpoint_attention", tmp_path)
    tree = yaml.safe_load((tmp_path / ALL_CONFIG).read_text())
    tree["arch"][key] = value
    (tmp_path / ALL_CONFIG).write_text(yaml.safe_dump(tree))
    with pytest.raises(CheckpointError, match=key) as error:
        from_reference(path)
    assert ALL_CONFIG in str(error.value)


def test_a_missing_config_is_asked_for(tmp_path: Path) -> None:
    path = recorded("reference_checkpoint_attention", tmp_path)
    (tmp_path / ALL_CONFIG).unlink()
    with pytest.raises(CheckpointError, match="--config"):
        from_reference(path)


@pytest.mark.parametrize("key", ["H_layers", "L_layers"])
def test_a_depth_that_is_not_the_weights_is_refused(tmp_path: Path, key: str) -> None:
    path = hrm_checkpoint(tmp_path)
    tree = yaml.safe_load((tmp_path / ALL_CONFIG).read_text())
    tree["arch"][key] += 1
    (tmp_path / ALL_CONFIG).write_text(yaml.safe_dump(tree))
    with pytest.raises(CheckpointError, match=f"arch.{key} is 3, but by the weights it is 2"):
        from_reference(path)


def trial(folder: Path, **fields: object) -> Path:
    """A folder of exported weights of a new model, which is small."""
    model = {"hidden_size": 16, "puzzle_emb_len": 1, "mixer": {"kind": "attention", "num_heads": 2}}
    config = TrialConfig.model_validate({"model": model, "data": {"size": 4}} | fields)
    export(Trained(build_model(config, seed=0, device="cpu"), config, "chosen"), folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step_5", "out", "--weights", "ema"], "--weights is for --to-reference"),
        (["trial", "out", "--to-reference", "--config", "all_config.yaml"], "--config is for reading"),
        (["trial", "out", "--to-reference", "--size", "4"], "--size is for reading"),
        (["trial", "new/all_config.yaml", "--to-reference"], "is the config's name"),
        (["trial", "/proc/step_1", "--to-reference"], "/proc/step_1: cannot be written"),
        (["trial", "step_5/new/step_1", "--to-reference"], "step_5/new/step_1: cannot be written"),
        (["trial", "new/..", "--to-reference"], "new/..: cannot be written"),
        (["step_5", "out", "--size", "6"], "81 by its number of symbols, 36 by --size"),
    ],
)
def test_a_conversion_that_cannot_be_is_refused_and_writes_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorded("reference_checkpoint_attention", tmp_path)
    trial(tmp_path / "trial")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["convert", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    """The largest file that the process may write is smaller than the weights."""
    trained = load(trial(tmp_path / "trial"))
    before = sorted(tmp_path.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="step_1: cannot be written"):
            write_reference(tmp_path / "a" / "b" / "step_1", trained.config, dict(trained.model.state_dict()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_kept_beside_the_config_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded("reference_checkpoint_attention", tmp_path)
    assert main(["convert", str(tmp_path / "step_5"), str(tmp_path / "out")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("sudoku of 81 cells")
    assert "kept" in second and " epochs," in second and " lr," not in second
