"""The reference's checkpoints there and back, and what is no such checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import ROOT
from trm.checkpoint import CheckpointError
from trm.config import TrialConfig
from trm.model import build_model
from trm.reference import CONFIG_FILE, PREFIX, read_reference, write_reference
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
    (folder / CONFIG_FILE).write_text("\n".join(lines) + "\n")
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
    write_reference(back, trained.config, weights, trained.origin["key_prefix"])
    first, second = stored(path), stored(back)
    assert first.keys() == second.keys()
    for key, weight in first.items():
        assert torch.equal(weight, second[key]) and weight.dtype == second[key].dtype
    given, written = (yaml.safe_load((p.parent / CONFIG_FILE).read_text())["arch"] for p in (path, back))
    same = given.keys() - {"loss", "num_heads", "forward_dtype"}  # num_heads: the MLP has none
    assert {key: written[key] for key in same} == {key: given[key] for key in same}
    assert read_reference(back)[0].model == trained.config.model


def hrm_checkpoint(folder: Path) -> Path:
    """The recorded HRM's first weights as the reference would save them."""
    case = json.loads((GOLDEN / "hrm_attention.json").read_text())
    with np.load(GOLDEN / "hrm_attention.npz") as arrays:
        weights = {
            f"{PREFIX}{name.removeprefix('init/inner.')}": torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("init/inner.")
        }
    config = {"arch": case["config"] | {"name": "hrm.hrm_v1@HierarchicalReasoningModel_ACTV1"}}
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config))
    path = folder / "step_1"
    torch.save(weights, path)
    return path


def test_hrm_is_converted_too(tmp_path: Path) -> None:
    path = hrm_checkpoint(tmp_path)
    trained = from_reference(path)
    model = trained.config.model
    assert (model.networks, model.gradient, model.act) == ("separate", "one_step", "continue")
    write_reference(tmp_path / "back" / "step_1", trained.config, dict(trained.model.state_dict()))
    first, second = stored(path), stored(tmp_path / "back" / "step_1")
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
    arch = yaml.safe_load((tmp_path / CONFIG_FILE).read_text())["arch"]
    assert (arch["pos_encodings"], arch["forward_dtype"]) == ("learned", "float32")
    trained = from_reference(tmp_path / "step_1")
    assert trained.config.model == config.model and trained.config.data.shape.seq_len == 36
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixer": {"kind": "mamba2", "headdim": 4}}, "no model.mixer.kind mamba2"),
        ({"mixer": {"kind": "attention", "num_heads": 2, "head_dim": 4}}, "no model.mixer.head_dim"),
        ({"mixer": {"kind": "mlp", "expansion": 2.0}}, "no model.mixer.expansion"),
        ({"latents": "single"}, "no model.latents single"),
        ({"act": "none"}, "no model.act none"),
        ({"gradient": "one_step"}, "one_step with shared networks"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("L_level.layers.1.mlp.down_proj.weight"), "lacks the weight block.layers.1.mlp.down_proj"),
        (without("H_init"), "has no weight H_init"),
        (without("lm_head.weight"), "is not a checkpoint of the reference"),
        (lambda w: w.update({f"{PREFIX}extra": torch.ones(1)}), "has a weight that the network lacks, extra"),
        (lambda w: w.update({"extra": torch.ones(1)}), "'extra' is no weight"),
        (lambda w: w.update({f"{PREFIX}lm_head.weight": torch.ones(11, 3)}), r"has the shape \(11, 3\)"),
        (
            lambda w: w.update({f"{PREFIX}embed_tokens.embedding_weight": torch.ones(12, 32)}),
            "has 12 symbols; known are",
        ),
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
        ("arch: {hidden_size: 32}", "arch has no expansion"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = recorded("reference_checkpoint_attention", tmp_path)
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        from_reference(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_size", "wide"), ("pos_encodings", "spiral"), ("num_heads", 5), ("L_layers", 0)],
)
def test_a_value_that_no_network_has_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = recorded("reference_checkpoint_attention", tmp_path)
    tree = yaml.safe_load((tmp_path / CONFIG_FILE).read_text())
    tree["arch"][key] = value
    (tmp_path / CONFIG_FILE).write_text(yaml.safe_dump(tree))
    with pytest.raises(CheckpointError, match={"L_layers": "num_layers"}.get(key, key)) as error:
        from_reference(path)
    assert CONFIG_FILE in str(error.value)


def test_a_missing_config_is_asked_for(tmp_path: Path) -> None:
    path = recorded("reference_checkpoint_attention", tmp_path)
    (tmp_path / CONFIG_FILE).unlink()
    with pytest.raises(CheckpointError, match="--config"):
        from_reference(path)


def test_hrm_with_two_depths_is_refused(tmp_path: Path) -> None:
    path = hrm_checkpoint(tmp_path)
    tree = yaml.safe_load((tmp_path / CONFIG_FILE).read_text())
    tree["arch"]["H_layers"] += 1
    (tmp_path / CONFIG_FILE).write_text(yaml.safe_dump(tree))
    with pytest.raises(CheckpointError, match="H_layers and L_layers differ"):
        from_reference(path)
