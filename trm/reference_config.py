"""all_config.yaml, the config beside a checkpoint of the reference's TRM or HRM, as this project's, and back.

What the reference takes from its data set (numbers of symbols and of puzzle identifiers) is read off the
weights, here by their names in this project. TRM's code names its data in `data_paths`, a list, and HRM's own
code in `data_path`, a string.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trm.checkpoint import CheckpointError
from trm.config import TrialConfig
from trm.data.boards.task import PuzzleTask
from trm.data.maze.paths import PATH
from trm.layers import RMS_NORM_EPS, swiglu_width
from trm.mixers.attention import AttentionConfig
from trm.mixers.mlp import MLPConfig
from trm.model_config import ModelConfig
from trm.settings.messages import explain
from trm.settings.overrides import override
from trm.settings.yaml import load_yaml

ALL_CONFIG = "all_config.yaml"
_MAZE_VOCABULARY = PATH + 2
_SUDOKU_SIZES = {size + 2: size for size in (4, 6, 9)}  # by the number of symbols: padding, blank, digits
_TASK = re.compile(r"sudoku|(?<![a-z])maze|(?<![a-z])arc(?![a-z])")  # in the name of a data set
_AS_LONG_AS_THE_SEQUENCE = ("embed_pos.embedding_weight", "block.layers.0.mixers.0.down_proj.weight")
_MOST_SLOTS = 4096  # of the puzzle embedding (16 are usual): with rotary positions no weight bounds them
_OTHER_NETWORKS = ("trm_singlez", "trm_hier6")  # modules of the reference with the weights of its trm
_PUBLISHED_PUZZLES = 1000  # of the training set, where the config does not say how many it has
_PRECISIONS = {"bfloat16": "auto", "float32": "float32"}  # train.precision for a forward_dtype
_READ = {  # the keys of arch that the network follows from, or that the reference ignores (H_layers of TRM)
    *("name", "loss", "hidden_size", "expansion", "num_heads", "pos_encodings", "rope_theta"),
    *("rms_norm_eps", "H_layers", "L_layers", "H_cycles", "L_cycles", "mlp_t", "no_ACT_continue"),
    *("puzzle_emb_ndim", "puzzle_emb_len", "halt_max_steps", "seq_len"),
}


def read_config(
    path: Path, weights: dict[str, Tensor], size: int | None = None
) -> tuple[TrialConfig, dict[str, Any]]:
    """The config of the run with these weights, from its all_config.yaml, and what of it has no place there.

    `size` is the number of cells per side, for mazes of which nothing else says it. The second part has
    dotted names and values that JSON can hold: keys that this project does not have, and settings of the
    training with values that it refuses. Raises CheckpointError or YamlError.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: give the run's {ALL_CONFIG} with --config")
    tree = load_yaml(path)
    arch = tree.get("arch") if isinstance(tree, dict) else None
    if not isinstance(arch, dict):
        raise CheckpointError(f"{path}: has no mapping `arch`: give the {ALL_CONFIG} of the reference's run")
    try:
        model = _checked_model(arch, weights)
        data = _data(tree, arch, model, weights, size)
        config = TrialConfig.model_validate({"model": model.model_dump(), "data": data})
        return _with_recipe(config, tree, arch)
    except ValidationError as error:
        raise CheckpointError(explain(error, TrialConfig, str(path))) from error
    except (ValueError, OverflowError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def all_config(config: TrialConfig, weights: dict[str, Tensor], kept: dict[str, Any]) -> dict[str, Any]:
    """The content of all_config.yaml for a run with this config; `kept` is what `read_config` found no place
    for.

    It has every key that the reference's code requires. `seq_len` is for `read_config` alone and stands
    outside `arch`: the reference ignores it there, while in `arch` its code would get it twice and fail.
    Raises CheckpointError for a network that the reference does not have.
    """
    arch = _arch(config, weights)
    optim, train, data = config.optim, config.train, config.data
    if not isinstance(data, PuzzleTask):
        raise _none_such(f"data.task {data.task}")
    puzzles = data.num_train or (data.generated_counts["train"] if data.is_generated else _PUBLISHED_PUZZLES)
    name = f"data/{data.task}-{data.size}x{data.size}"
    return {
        "arch": arch,
        **({"data_path": name} if config.model.networks == "separate" else {"data_paths": [name]}),
        "seq_len": data.shape.seq_len,
        "epochs": math.ceil(train.max_samples / puzzles),
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
        **{key: value for key, value in kept.items() if key != "arch" and not key.startswith("arch.")},
    }


def model_config(arch: dict[str, Any], is_hrm: bool) -> ModelConfig:
    """The network of a reference's `arch`, with the reference's defaults where a key is missing.

    Raises ValueError for what this project's networks do not have.
    """
    network = str(arch.get("name")).partition("@")[0].rpartition(".")[2]
    if network in _OTHER_NETWORKS:
        raise ValueError(f"arch.name is {arch['name']}: only TRM and HRM themselves can be converted")
    if arch.get("rms_norm_eps", RMS_NORM_EPS) != RMS_NORM_EPS:
        raise ValueError(
            f"arch.rms_norm_eps is {arch['rms_norm_eps']!r}: only {RMS_NORM_EPS:g}, that of this project's "
            f"norms, can be converted"
        )
    expansion, layers = _given(arch, "expansion"), _given(arch, "L_layers")
    h_layers = _given(arch, "H_layers") if is_hrm else layers
    return ModelConfig(
        hidden_size=_given(arch, "hidden_size"),
        num_layers=layers,
        h_layers=None if h_layers == layers else h_layers,
        networks="separate" if is_hrm else "shared",
        gradient="one_step" if is_hrm else "recursion",
        act="continue" if is_hrm or not arch.get("no_ACT_continue", True) else "halt",
        h_cycles=_given(arch, "H_cycles"),
        l_cycles=_given(arch, "L_cycles"),
        expansion=expansion,
        mixer=MLPConfig(expansion=expansion)
        if arch.get("mlp_t", False)
        else AttentionConfig(num_heads=_given(arch, "num_heads")),
        pos_encodings=_given(arch, "pos_encodings"),
        rope_theta=arch.get("rope_theta", 10000.0),
        puzzle_emb_len=_slots(arch, is_hrm),
        halt_max_steps=_given(arch, "halt_max_steps"),
        halt_exploration_prob=arch.get("halt_exploration_prob", 0.1),
    )


def _given(arch: dict[str, Any], key: str) -> Any:
    if key not in arch:
        raise ValueError(f"arch has no {key!r}: complete it")
    return arch[key]


def _slots(arch: dict[str, Any], is_hrm: bool) -> int:
    """Tokens before the puzzle. HRM has no key for them: as many as the embedding takes."""
    hidden_size, embedding_dim = _given(arch, "hidden_size"), arch.get("puzzle_emb_ndim", 0)
    if not embedding_dim:
        return 0
    needed = -(-embedding_dim // hidden_size)
    slots = 0 if is_hrm else _whole("arch.puzzle_emb_len", arch.get("puzzle_emb_len", 16))
    if slots > _MOST_SLOTS or 0 < slots < needed:
        raise ValueError(
            f"arch.puzzle_emb_len is {slots}: an embedding with puzzle_emb_ndim {embedding_dim} takes "
            f"{needed} of hidden_size {hidden_size} or more, and {_MOST_SLOTS:,} at most: correct it"
        )
    return slots or needed


def _checked_model(arch: dict[str, Any], weights: dict[str, Tensor]) -> ModelConfig:
    """The network of these weights. Raises ValueError if its sizes are not theirs, before it is built."""
    embedding = weights.get("puzzle_emb.weights")
    found = {
        "hidden_size": weights["embed_tokens.embedding_weight"].shape[1],
        "L_layers": _depth("block", weights),
        "puzzle_emb_ndim": 0 if embedding is None else embedding.shape[1],
    }
    if is_hrm := any(name.startswith("block_H.") for name in weights):
        found["H_layers"] = _depth("block_H", weights)
    remedy = f"give the {ALL_CONFIG} of this checkpoint's run"
    for key, value in found.items():
        given = arch.get(key, 0 if key == "puzzle_emb_ndim" else value)  # a missing size: `model_config`
        if given != value:
            raise ValueError(f"arch.{key} is {given!r}, but by the weights it is {value}: {remedy}")
    model = model_config(
        {key: value for key, value in arch.items() if key != "halt_exploration_prob"}, is_hrm
    )
    width = weights["block.layers.0.mlp.down_proj.weight"].shape[1]
    if swiglu_width(model.hidden_size, model.expansion) != width:
        raise ValueError(
            f"arch.expansion is {model.expansion}, but the weights' SwiGLU is {width:,} wide, which is that "
            f"of another: {remedy}"
        )
    return model


def _depth(block: str, weights: dict[str, Tensor]) -> int:
    """Layers of a network of which these are the weights."""
    return len({name.split(".")[2] for name in weights if name.startswith(f"{block}.layers.")})


def _whole(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is {value!r}: give a whole number from 0 on")
    return value


def _data(
    tree: dict[str, Any],
    arch: dict[str, Any],
    model: ModelConfig,
    weights: dict[str, Tensor],
    size: int | None,
) -> dict[str, Any]:
    """The task and its size. Raises ValueError where nothing says which it is, or two things differ."""
    given = [tree.get(key) for key in ("data_path", "data_paths")]
    names = [str(name) for each in given for name in (each if isinstance(each, list) else [each]) if name]
    vocabulary = len(weights["embed_tokens.embedding_weight"])
    task = _task(names, vocabulary)
    cells = {f"{name} of the weights": len(weights[name]) - model.puzzle_emb_len
             for name in _AS_LONG_AS_THE_SEQUENCE if name in weights}  # fmt: skip
    if task == "sudoku":
        cells["its number of symbols"] = _SUDOKU_SIZES[vocabulary] ** 2
    if (length := tree.get("seq_len", arch.get("seq_len"))) is not None:
        cells["seq_len"] = _whole("seq_len", length)
    if size is not None:
        cells["--size"] = size**2
    sides = set(re.findall(r"(?<!\d)(\d{1,3})x\1(?!\d)", " ".join(names)))
    if not cells and len(sides) != 1:
        raise ValueError("nothing in it or in the weights says how large the mazes are: give --size N")
    found = set(cells.values()) or {int(side) ** 2 for side in sides}
    number = found.pop()
    if found or number < 0 or math.isqrt(number) ** 2 != number:
        told = ", ".join(f"{value} by {source}" for source, value in cells.items())
        raise ValueError(f"the cells of a square board are {told}, which cannot be: correct what is wrong")
    return {"task": task, "size": math.isqrt(number)}


def _task(names: list[str], vocabulary: int) -> str:
    """By the names of its data sets; Sudoku if it names none, or if no other task has as many symbols."""
    told = ", ".join(names) or "none"
    parts = (reversed(PurePath(name.lower()).parts) for name in names)
    found = (next((tasks for part in each if (tasks := _TASK.findall(part))), []) for each in parts)
    named = sorted({task for tasks in found for task in tasks})
    if len(named) > 1 or named == ["arc"]:
        raise ValueError(f"was trained on {told}: only Sudoku or mazes, one of them, can be converted")
    if named == ["maze"] and vocabulary != _MAZE_VOCABULARY:
        raise ValueError(
            f"names mazes ({told}), which have {_MAZE_VOCABULARY} symbols, but the weights have "
            f"{vocabulary}: give the {ALL_CONFIG} of this checkpoint's run"
        )
    if names and not named and vocabulary == _MAZE_VOCABULARY:
        raise ValueError(
            f"does not say what {vocabulary} symbols stand for, those of mazes or of 4x4 Sudoku (its data: "
            f"{told}): write data_paths: [maze] or data_paths: [sudoku] into it"
        )
    if named != ["maze"] and vocabulary not in _SUDOKU_SIZES:
        sizes = ", ".join(f"{known} (Sudoku {size}x{size})" for known, size in _SUDOKU_SIZES.items())
        raise ValueError(
            f"is of a model that has {vocabulary} symbols; known are {sizes} and {_MAZE_VOCABULARY} (mazes, "
            f"if its data are named so): no other task can be converted"
        )
    return "maze" if named == ["maze"] else "sudoku"


def _with_recipe(
    config: TrialConfig, tree: dict[str, Any], arch: dict[str, Any]
) -> tuple[TrialConfig, dict[str, Any]]:
    """The config with the training's settings, for the record, and what could not be carried into it.

    The weights do not depend on them: one that this project refuses blocks nothing.
    """
    loss: dict[str, Any] = arch["loss"] if isinstance(arch.get("loss"), dict) else {}
    dtype = arch.get("forward_dtype")
    ours = {  # by their keys; the warm-up comes last, as it must be shorter than a run of such batches
        "arch.halt_exploration_prob": ("model.halt_exploration_prob", arch.get("halt_exploration_prob")),
        "arch.forward_dtype": ("train.precision", _PRECISIONS.get(str(dtype), dtype)),
        "arch.loss.loss_type": ("loss.kind", _stem(loss.get("loss_type"))),
        "lr": ("optim.lr", tree.get("lr")),
        "lr_min_ratio": ("optim.lr_min_ratio", tree.get("lr_min_ratio")),
        "beta1": ("optim.betas.0", tree.get("beta1")),
        "beta2": ("optim.betas.1", tree.get("beta2")),
        "weight_decay": ("optim.weight_decay", tree.get("weight_decay")),
        "puzzle_emb_lr": ("optim.puzzle_emb_lr", tree.get("puzzle_emb_lr")),
        "puzzle_emb_weight_decay": ("optim.puzzle_emb_weight_decay", tree.get("puzzle_emb_weight_decay")),
        "ema_rate": ("optim.ema_decay", tree.get("ema_rate") if tree.get("ema") else 0.0),
        "global_batch_size": ("train.batch_size", tree.get("global_batch_size")),
        "lr_warmup_steps": ("optim.lr_warmup_steps", tree.get("lr_warmup_steps")),
    }
    content = config.model_dump(mode="json")
    if tree.get("lr_warmup_steps") is not None:
        content["optim"]["lr_warmup_steps"] = 0
    theirs = {f"arch.{key}": value for key, value in arch.items() if key not in _READ}
    theirs |= {f"arch.loss.{key}": value for key, value in loss.items() if key != "name"}
    theirs |= {str(key): value for key, value in tree.items() if key not in ("arch", "ema", "seq_len")}
    for key, (path, value) in ours.items():
        if value is None:
            continue
        changed = override(content, [(path, value)], TrialConfig)
        with suppress(ValidationError):  # a value that is refused stays in `theirs`
            TrialConfig.model_validate(changed)
            content = changed
            theirs.pop(key, None)
    theirs = {key: value for key, value in theirs.items() if value not in (None, [])}
    return TrialConfig.model_validate(content), _for_json(theirs)


def _for_json(value: Any) -> Any:
    """The value as strict JSON has it: what it has not, such as dates, infinity and NaN, as text."""
    if isinstance(value, dict):
        return {str(key): _for_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_for_json(each) for each in value]
    is_plain = (
        value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    )
    return value if is_plain else str(value)


def _stem(loss_type: Any) -> Any:
    return loss_type.removesuffix("_cross_entropy") if isinstance(loss_type, str) else loss_type


def _arch(config: TrialConfig, weights: dict[str, Tensor]) -> dict[str, Any]:
    """The reference's `arch` for this network. Raises CheckpointError if the reference has none such."""
    model = config.model
    mixer: Any = model.mixer
    is_mlp, is_attention = isinstance(mixer, MLPConfig), isinstance(mixer, AttentionConfig)
    separate = model.networks == "separate"
    embedding = weights.get("puzzle_emb.weights")
    embedding_dim = 0 if embedding is None else embedding.shape[1]
    slots = -(-embedding_dim // model.hidden_size)
    problems = {
        f"model.mixer.kind {mixer.kind}": not (is_mlp or is_attention),
        "model.mixer.head_dim": is_attention
        and mixer.head_dim not in (None, model.hidden_size // mixer.num_heads),
        "model.mixer.expansion, which is not model.expansion": is_mlp and mixer.expansion != model.expansion,
        f"model.latents {model.latents}": model.latents != "two",
        f"model.act {model.act}": model.act == "none",
        f"model.gradient {model.gradient} with {model.networks} networks": separate
        != (model.gradient == "one_step"),
        "model.mixer.kind mlp with separate networks": separate and is_mlp,
        "model.pos_encodings none with separate networks": separate and model.pos_encodings == "none",
        f"model.act {model.act} with separate networks": separate and model.act != "continue",
        f"model.puzzle_emb_len {model.puzzle_emb_len} with separate networks, but {slots} for an embedding "
        f"as wide as this": separate and model.puzzle_emb_len != slots,
    }
    later = [key for key in model.added if key != "h_layers" and key not in model.left_out()]
    problems |= {f"model.{key} {getattr(model, key)}": True for key in later}
    if wrong := [text for text, is_wrong in problems.items() if is_wrong]:
        raise _none_such(wrong[0])
    arch = {
        "name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"
        if separate
        else "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
        "loss": {"name": "losses@ACTLossHead", "loss_type": f"{config.loss.kind}_cross_entropy"},
        "H_cycles": model.h_cycles,
        "L_cycles": model.l_cycles,
        "H_layers": model.depths[-1] if separate else 0,
        "L_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "expansion": model.expansion,
        "num_heads": mixer.num_heads if is_attention else 8,
        "pos_encodings": model.pos_encodings,
        "rope_theta": model.rope_theta,
        "puzzle_emb_ndim": embedding_dim,
        "halt_max_steps": model.halt_max_steps,
        "halt_exploration_prob": model.halt_exploration_prob,
        "forward_dtype": _forward_dtype(config, weights),
    }
    if not separate:
        arch |= {
            "puzzle_emb_len": model.puzzle_emb_len,
            "mlp_t": is_mlp,
            "no_ACT_continue": model.act == "halt",
        }
    return arch


def _forward_dtype(config: TrialConfig, weights: dict[str, Tensor]) -> str:
    """The reference stores the initial states in it: bfloat16 only where that rounds nothing."""
    states = (weights[name] for name in ("H_init", "L_init"))
    is_short = all(torch.equal(state, state.bfloat16().float()) for state in states)
    return "bfloat16" if is_short and config.train.precision != "float32" else "float32"


def _none_such(what: str) -> CheckpointError:
    return CheckpointError(f"the reference has no {what}: this checkpoint cannot be written in its form")
