"""Checkpoints of the reference implementations of TRM and HRM, in this project's names, and back.

The reference's pretrain.py saves `step_N`, the state_dict of its loss head without a config, and beside it
all_config.yaml (github.com/SamsungSAILMontreal/TinyRecursiveModels). Numbers of symbols and of puzzle
identifiers are read off the weights, as the reference takes them from its data set.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

from trm.checkpoint import CheckpointError, load_safely
from trm.config import ModelConfig, TrialConfig
from trm.data.maze.paths import PATH
from trm.mixers.attention import AttentionConfig
from trm.mixers.mlp import MLPConfig
from trm.settings.messages import explain
from trm.settings.yaml import load_yaml

CONFIG_FILE = "all_config.yaml"
PREFIX = "_orig_mod.model.inner."  # as the reference saves a compiled model; uncompiled without _orig_mod
_TO_OURS = (
    (r"^L_level\.", "block."),
    (r"^H_level\.", "block_H."),
    (r"\.self_attn\.", ".mixers.0."),
    (r"\.mlp_t\.", ".mixers.0."),
)
_SUDOKU_SIZES = {size + 2: size for size in (4, 6, 9)}  # by the number of symbols: padding, blank, digits
_MAZE_VOCABULARY = PATH + 2
_MAZE_HARD = 30  # its size, where the weights do not depend on it
_EPS = 1e-5  # of the norms


def our_name(name: str) -> str:
    """A weight's name in this project, from the one below `model.inner.` in the reference."""
    for pattern, replacement in _TO_OURS:
        name = re.sub(pattern, replacement, name)
    return name


def their_name(name: str, is_mlp: bool) -> str:
    """The inverse of `our_name`."""
    name = re.sub(r"^block\.", "L_level.", re.sub(r"^block_H\.", "H_level.", name))
    return name.replace(".mixers.0.", ".mlp_t." if is_mlp else ".self_attn.")


def model_config(arch: dict[str, Any], is_hrm: bool) -> ModelConfig:
    """The network of a reference's `arch`, with the reference's defaults where a key is missing.

    Raises ValueError for what this project's networks do not have.
    """
    hidden_size, embedding_dim = arch["hidden_size"], arch.get("puzzle_emb_ndim", 0)
    length = arch.get("puzzle_emb_len", 0 if is_hrm else 16) or -(-embedding_dim // hidden_size)
    if is_hrm and arch["H_layers"] != arch["L_layers"]:
        raise ValueError("H_layers and L_layers differ; this project's two networks are equally deep")
    if arch.get("rms_norm_eps", _EPS) != _EPS:
        raise ValueError(f"rms_norm_eps is {arch['rms_norm_eps']}; this project's norm has {_EPS:g} only")
    expansion = arch["expansion"]
    return ModelConfig(
        hidden_size=hidden_size,
        num_layers=arch["L_layers"],
        networks="separate" if is_hrm else "shared",
        gradient="one_step" if is_hrm else "recursion",
        act="halt" if arch.get("no_ACT_continue", not is_hrm) else "continue",
        h_cycles=arch["H_cycles"],
        l_cycles=arch["L_cycles"],
        expansion=expansion,
        mixer=MLPConfig(expansion=expansion)
        if arch.get("mlp_t", False)
        else AttentionConfig(num_heads=arch["num_heads"]),
        pos_encodings=arch["pos_encodings"],
        rope_theta=arch.get("rope_theta", 10000.0),
        puzzle_emb_len=length if embedding_dim else 0,
        halt_max_steps=arch["halt_max_steps"],
        halt_exploration_prob=arch["halt_exploration_prob"],
    )


def read_reference(path: Path, config_path: Path | None = None) -> tuple[TrialConfig, dict[str, Tensor], str]:
    """The config, the weights in float32 under our names, and the prefix of the names in the file.

    `config_path` is the all_config.yaml; by default the one beside `path`. Raises CheckpointError.
    """
    state = load_safely(path, "cpu")
    prefix, named = _below_prefix(path, state)
    weights = {our_name(name): weight.float() for name, weight in named.items()}
    beside = config_path or path.parent / CONFIG_FILE
    if not beside.is_file():
        raise CheckpointError(f"{beside}: no such file: give the run's {CONFIG_FILE} with --config")
    tree = load_yaml(beside)
    arch = tree.get("arch") if isinstance(tree, dict) else None
    if not isinstance(arch, dict):
        raise CheckpointError(
            f"{beside}: has no mapping `arch`: give the {CONFIG_FILE} of the reference's run"
        )
    try:
        model = model_config(arch, is_hrm="block_H.layers.0.mlp.down_proj.weight" in weights)
        config = TrialConfig.model_validate(
            {"model": model.model_dump(), "data": _data(tree, model, weights, path), **_recipe(tree)}
        )
    except KeyError as error:
        raise CheckpointError(f"{beside}: arch has no {error.args[0]}: complete it") from error
    except ValidationError as error:
        raise CheckpointError(explain(error, TrialConfig, str(beside))) from error
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{beside}: {error}: it cannot be converted") from error
    return config, weights, prefix


def write_reference(
    path: Path, config: TrialConfig, weights: dict[str, Tensor], prefix: str = PREFIX
) -> None:
    """Write `weights`, by our names, as the reference saves them, and all_config.yaml beside it.

    Raises CheckpointError, before anything is written, for a network that the reference does not have.
    """
    arch = _arch(config, weights)
    beside = path.parent / CONFIG_FILE
    for file in (path, beside):
        if file.exists():
            raise CheckpointError(f"{file}: already exists and is not overwritten: give another folder")
    is_mlp = bool(arch["mlp_t"])
    stored = {
        f"{prefix}{their_name(name, is_mlp)}": weight.to(getattr(torch, arch["forward_dtype"]))
        if name in ("H_init", "L_init")
        else weight
        for name, weight in weights.items()
    }
    optim, train = config.optim, config.train
    content = {
        "arch": arch,
        "data_paths": [f"data/{config.data.task}"],
        "lr": optim.lr,
        "lr_min_ratio": optim.lr_min_ratio,
        "lr_warmup_steps": config.warmup_steps,
        "beta1": optim.betas[0],
        "beta2": optim.betas[1],
        "weight_decay": optim.weight_decay,
        "puzzle_emb_lr": optim.puzzle_emb_lr,
        "puzzle_emb_weight_decay": optim.puzzle_emb_weight_decay,
        "ema": optim.ema_decay > 0,
        "ema_rate": optim.ema_decay,
        "global_batch_size": train.batch_size,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    torch.save(stored, partial)
    beside.write_text(yaml.safe_dump(content))
    partial.replace(path)


def _below_prefix(path: Path, state: Any) -> tuple[str, dict[str, Tensor]]:
    for prefix in (PREFIX, PREFIX.removeprefix("_orig_mod.")):
        if isinstance(state, dict) and f"{prefix}lm_head.weight" in state:
            foreign = [name for name in state if not name.startswith(prefix)]
            wrong = foreign or [name for name, value in state.items() if not isinstance(value, Tensor)]
            if wrong:
                raise CheckpointError(f"{path}: {wrong[0]!r} is no weight of TRM or HRM: give another file")
            return prefix, {name.removeprefix(prefix): weight for name, weight in state.items()}
    found = (
        f"it begins with {next(iter(state))!r}" if isinstance(state, dict) and state else "it has no weights"
    )
    raise CheckpointError(
        f"{path}: is not a checkpoint of the reference, whose names begin with {PREFIX} or model.inner. "
        f"({found}): give a file that its pretrain.py saved as step_N"
    )


def _data(tree: dict[str, Any], model: ModelConfig, weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """The task and its size: Sudoku, unless the data sets in all_config.yaml are named otherwise."""
    for name in ("embed_tokens.embedding_weight", "H_init", "L_init", "q_head.weight"):
        if name not in weights:
            raise CheckpointError(f"{path}: has no weight {name}: it is incomplete")
    vocabulary = len(weights["embed_tokens.embedding_weight"])
    paths = " ".join(map(str, tree.get("data_paths") or []))
    if "arc" in paths and vocabulary not in _SUDOKU_SIZES:
        raise CheckpointError(f"{path}: was trained on {paths}: this project has no task for it yet")
    if "maze" in paths and vocabulary == _MAZE_VOCABULARY:
        return {"task": "maze", "size": _maze_size(model, weights)}
    if vocabulary not in _SUDOKU_SIZES:
        sizes = ", ".join(f"{known} (Sudoku {size}x{size})" for known, size in _SUDOKU_SIZES.items())
        raise CheckpointError(
            f"{path}: has {vocabulary} symbols; known are {sizes}, and {_MAZE_VOCABULARY} for mazes, whose "
            f"data_paths in {CONFIG_FILE} name them"
        )
    return {"task": "sudoku", "size": _SUDOKU_SIZES[vocabulary]}


def _maze_size(model: ModelConfig, weights: dict[str, Tensor]) -> int:
    """Cells per side, by a weight that is as long as the sequence, if there is one."""
    for name in ("embed_pos.embedding_weight", "block.layers.0.mixers.0.down_proj.weight"):
        if name in weights:
            return round((len(weights[name]) - model.puzzle_emb_len) ** 0.5)
    return _MAZE_HARD


def _recipe(tree: dict[str, Any]) -> dict[str, Any]:
    """What else of all_config.yaml has a key here, for the record: the weights do not depend on it."""
    optim = {
        "lr": tree.get("lr"),
        "weight_decay": tree.get("weight_decay"),
        "puzzle_emb_lr": tree.get("puzzle_emb_lr"),
        "puzzle_emb_weight_decay": tree.get("puzzle_emb_weight_decay"),
        "lr_min_ratio": tree.get("lr_min_ratio"),
        "ema_decay": tree.get("ema_rate") if tree.get("ema") else 0.0,
    }
    train = {"batch_size": tree.get("global_batch_size")}
    groups = {"optim": optim, "train": train}
    return {
        group: {key: value for key, value in values.items() if value is not None}
        for group, values in groups.items()
    }


def _arch(config: TrialConfig, weights: dict[str, Tensor]) -> dict[str, Any]:
    """The reference's `arch` for this network. Raises CheckpointError if the reference has none such."""
    model = config.model
    mixer: Any = model.mixer
    is_mlp, is_attention = isinstance(mixer, MLPConfig), isinstance(mixer, AttentionConfig)
    is_hrm = model.networks == "separate"
    problems = {
        f"model.mixer.kind {mixer.kind}": not (is_mlp or is_attention),
        "model.mixer.head_dim": is_attention
        and mixer.head_dim not in (None, model.hidden_size // mixer.num_heads),
        "model.mixer.expansion, which is not model.expansion": is_mlp and mixer.expansion != model.expansion,
        f"model.latents {model.latents}": model.latents != "two",
        f"model.act {model.act}": model.act == "none",
        f"model.gradient {model.gradient} with {model.networks} networks": is_hrm
        != (model.gradient == "one_step"),
    }
    if wrong := [text for text, is_wrong in problems.items() if is_wrong]:
        raise CheckpointError(
            f"the reference has no {wrong[0]}: this checkpoint cannot be written in its form"
        )
    embedding = weights.get("puzzle_emb.weights")
    # As the reference saves a run in bfloat16; other values would be rounded by it.
    is_short = all(
        torch.equal(weights[name], weights[name].bfloat16().float()) for name in ("H_init", "L_init")
    )
    name = (
        "hrm.hrm_v1@HierarchicalReasoningModel_ACTV1"
        if is_hrm
        else "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1"
    )
    return {
        "name": name,
        "loss": {"name": "losses@ACTLossHead", "loss_type": f"{config.loss.kind}_cross_entropy"},
        "H_cycles": model.h_cycles,
        "L_cycles": model.l_cycles,
        "H_layers": model.num_layers if is_hrm else 0,
        "L_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "expansion": model.expansion,
        "num_heads": mixer.num_heads if is_attention else 8,
        "pos_encodings": model.pos_encodings,
        "rope_theta": model.rope_theta,
        "puzzle_emb_ndim": 0 if embedding is None else embedding.shape[1],
        "puzzle_emb_len": model.puzzle_emb_len,
        "mlp_t": is_mlp,
        "no_ACT_continue": model.act == "halt",
        "halt_max_steps": model.halt_max_steps,
        "halt_exploration_prob": model.halt_exploration_prob,
        "forward_dtype": "bfloat16" if is_short else "float32",
    }
