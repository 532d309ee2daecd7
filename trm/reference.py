"""Checkpoints of the reference implementations of TRM and HRM, in this project's names, and back.

The reference's pretrain.py saves `step_N`, the state_dict of its loss head without a config, and beside it
all_config.yaml (github.com/SamsungSAILMontreal/TinyRecursiveModels; `trm.reference_config`).
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from trm.checkpoint import CheckpointError, load_safely, written_whole
from trm.config import TrialConfig
from trm.reference_config import ALL_CONFIG, all_config, read_config
from trm.stored import Origin, check_weights

PREFIX = Origin().key_prefix  # as the reference saves a compiled model; uncompiled without _orig_mod
_TO_OURS = (
    (r"^L_level\.", "block."),
    (r"^H_level\.", "block_H."),
    (r"\.self_attn\.", ".mixers.0."),
    (r"\.mlp_t\.", ".mixers.0."),
)
_TABLES = (  # (rows, columns); the network's sizes are read off them
    "embed_tokens.embedding_weight",
    "q_head.weight",
    "block.layers.0.mlp.down_proj.weight",
)


def our_name(name: str) -> str:
    """A weight's name in this project, from the one below `model.inner.` in the reference."""
    for pattern, replacement in _TO_OURS:
        name = re.sub(pattern, replacement, name)
    return name


def their_name(name: str, is_mlp: bool) -> str:
    """The inverse of `our_name`."""
    name = re.sub(r"^block\.", "L_level.", re.sub(r"^block_H\.", "H_level.", name))
    return name.replace(".mixers.0.", ".mlp_t." if is_mlp else ".self_attn.")


def read_reference(
    path: Path, config_path: Path | None = None, size: int | None = None
) -> tuple[TrialConfig, dict[str, Tensor], dict[str, Any]]:
    """The config, the weights in float32 under our names, and what `write_reference` needs beside them.

    `config_path` is the all_config.yaml; by default the one beside `path`. `size` is the number of cells per
    side, for mazes of which nothing else says it. Raises CheckpointError or YamlError.
    """
    prefix, named = _below_prefix(path, load_safely(path, "cpu"))
    weights = {our_name(name): weight for name, weight in named.items()}
    if len(weights) < len(named):
        raise CheckpointError(
            f"{path}: two of its names are of the same weight, so that it is damaged: give a file that "
            f"pretrain.py saved"
        )
    _check_tables(path, weights)
    config, kept = read_config(config_path or path.parent / ALL_CONFIG, weights, size)
    floats = {name: weight.detach().float() for name, weight in weights.items()}
    return config, floats, {"key_prefix": prefix, "not_carried": kept}


def write_reference(
    path: Path, config: TrialConfig, weights: dict[str, Tensor], origin: dict[str, Any] | None = None
) -> None:
    """Write `weights`, by our names, as the reference saves them, and all_config.yaml beside it.

    `origin` is what `read_reference` returned of a checkpoint that came from there. Both files are written
    whole or not at all. Raises CheckpointError, for a network that the reference does not have before
    anything is written.
    """
    origin = origin or {}
    content = all_config(config, weights, origin.get("not_carried", {}))
    beside = path.parent / ALL_CONFIG
    if path == beside:
        raise CheckpointError(f"{path}: is the config's name: give another for the weights, such as step_1")
    for file in (path, beside):
        if file.exists():
            raise CheckpointError(f"{file}: already exists and is not overwritten: give another folder")
    arch, prefix = content["arch"], origin.get("key_prefix", PREFIX)
    stored = {
        f"{prefix}{their_name(name, arch.get('mlp_t', False))}": weight.to(
            getattr(torch, arch["forward_dtype"])
        )
        if name in ("H_init", "L_init")
        else weight
        for name, weight in weights.items()
    }
    _write_both(path, stored, beside, yaml.safe_dump(content))


def _write_both(path: Path, stored: dict[str, Tensor], beside: Path, text: str) -> None:
    """Both files, or neither, nor a folder for them."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(beside) as partial_text, written_whole(path) as partial:
            with partial.open("wb") as file:
                torch.save(stored, file)
            partial_text.write_text(text)
        made.clear()
    except (OSError, RuntimeError) as error:  # torch.save raises the latter where a write fails
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: cannot be written ({reason}): give another place") from error
    finally:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


def _below_prefix(path: Path, state: Any) -> tuple[str, dict[str, Tensor]]:
    for prefix in (PREFIX, PREFIX.removeprefix("_orig_mod.")):
        if isinstance(state, dict) and f"{prefix}lm_head.weight" in state:
            check_weights(state, path)
            if foreign := [name for name in state if not name.startswith(prefix)]:
                raise CheckpointError(
                    f"{path}: {foreign[0]!r} is no weight of TRM or HRM: give a file that pretrain.py saved"
                )
            return prefix, {name.removeprefix(prefix): weight for name, weight in state.items()}
    found = (
        f"it begins with {next(iter(state))!r}" if isinstance(state, dict) and state else "it has no weights"
    )
    raise CheckpointError(
        f"{path}: is not a checkpoint of the reference, whose names begin with {PREFIX} or model.inner. "
        f"({found}): give a file that its pretrain.py saved as step_N"
    )


def _check_tables(path: Path, weights: dict[str, Tensor]) -> None:
    for name in ("H_init", "L_init", *_TABLES):
        if name not in weights:
            raise CheckpointError(f"{path}: has no weight {name}: it is incomplete")
    for name in (*_TABLES, "puzzle_emb.weights"):
        shape = tuple(weights[name].shape) if name in weights else (1, 1)
        if len(shape) != 2 or 0 in shape:
            raise CheckpointError(
                f"{path}: {name} has the shape {shape}, but is a table of rows and columns: it is damaged"
            )
