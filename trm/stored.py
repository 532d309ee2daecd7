"""Checks of what is stored of a trained model, before any of it is used: structure, config and weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from trm.checkpoint import CheckpointError
from trm.config import TrialConfig
from trm.settings.messages import explain

MAX_TOKENS = 2**16  # 16 times the cells of the largest board; tables of positions grow with their number
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_RESTORE = "restore it from a copy, or give another"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Chosen(_Stored):
    step: int = Field(ge=0)
    weights: dict[Any, Any]


class TrialState(_Stored):
    """What of a trial's checkpoint a model is made of; its weights have still to be checked."""

    model: dict[Any, Any]
    ema: dict[Any, Any]  # empty in a run without an average
    chosen: Chosen | None = None  # older versions did not keep it
    config: str  # JSON
    step: int = Field(ge=0)


class Origin(_Stored):
    """Of a converted checkpoint: what writing it back takes (`trm.reference`)."""

    key_prefix: Literal["_orig_mod.model.inner.", "model.inner."] = "_orig_mod.model.inner."
    not_carried: dict[str, Any] = {}


class About(_Stored):
    """config.json of a folder that `export` or `convert` wrote."""

    weights: Literal["chosen", "ema", "raw", "converted"]
    step: int | None = Field(None, ge=0)
    knows_data: bool = False
    origin: Origin = Origin()
    config: dict[str, Any]


Structure = TypeVar("Structure", bound=_Stored)


def structured(content: dict[Any, Any], structure: type[Structure], path: Path) -> Structure:
    """`content` as this structure, whose other keys are ignored. Raises CheckpointError."""
    try:
        return structure.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key, wrong = ".".join(map(str, first["loc"])), first["msg"].replace("Input should be", "must be", 1)
        given = f" (given {type(first['input']).__name__})"
        wrong = "is missing" if first["type"] == "missing" else f"{wrong}{given}"
        raise CheckpointError(f"{path}: {key}: {wrong}: {_RESTORE}") from error


def mapping_of(path: Path, text: str) -> dict[str, Any]:
    """A mapping from JSON. Raises CheckpointError.

    A backend of a mixer that not every machine has is turned into `auto`, which changes the speed only.
    """
    try:
        content = json.loads(text, object_hook=_on_any_machine)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its config is damaged ({error}): {_RESTORE}") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: its config is a {type(content).__name__}, which must be a mapping: {_RESTORE}"
        )
    return content


def _on_any_machine(mapping: dict[str, Any]) -> dict[str, Any]:
    return mapping | {"backend": "auto"} if mapping.get("backend") == "mamba_ssm" else mapping


def config_of(content: dict[str, Any], weights: Mapping[str, Tensor], path: Path) -> TrialConfig:
    """The run's config, whose weights these are. Raises CheckpointError."""
    model = content.get("model")
    for key in ("num_layers", "h_layers"):
        layers = model.get(key) if isinstance(model, dict) else None
        # Validation takes time for each layer, so that a huge number would never come back.
        if layers is not None and not (type(layers) is int and layers <= len(weights)):
            raise CheckpointError(
                f"{path}: model.{key} is {layers!r}, which must be a whole number of layers, of which there "
                f"are {len(weights)} weights: {_RESTORE}"
            )
    try:
        return TrialConfig.recorded(content)
    except ValidationError as error:
        raise CheckpointError(explain(error, TrialConfig, str(path))) from error
    except OverflowError as error:
        raise CheckpointError(f"{path}: a number of its config is too large ({error}): {_RESTORE}") from error


def check_weights(weights: Mapping[Any, Any], source: object) -> None:
    """Raise CheckpointError unless all are tensors in memory of a floating-point type that networks have."""
    for name, weight in weights.items():
        if not isinstance(name, str):
            wrong = f"{name!r} is a {type(name).__name__}, but a weight's name is a string"
        elif not isinstance(weight, Tensor):
            wrong = f"{name} is a {type(weight).__name__}, but a weight is a tensor"
        elif weight.layout is not torch.strided or weight.is_nested or weight.is_meta:
            wrong = f"{name} is a sparse, nested or meta tensor, but a weight is a plain one"
        elif weight.dtype not in _DTYPES:
            allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
            wrong = f"{name} is of {str(weight.dtype).removeprefix('torch.')}; allowed are {allowed}"
        elif weight.nbytes > weight.untyped_storage().nbytes():
            wrong = f"{name} has the shape {tuple(weight.shape)}, but fewer values are stored"
        else:
            continue
        raise CheckpointError(f"{source}: {wrong}: {_RESTORE}")


def check_fit(weights: Mapping[str, Tensor], model: nn.Module, source: object) -> None:
    """Raise CheckpointError unless these are all of the model's weights, and finite; it may be on `meta`."""
    own = model.state_dict()
    remedy = "give weights and config of the same run"
    for text, names in (
        ("lacks the weight", own.keys() - weights.keys()),
        ("has a weight that the network lacks,", weights.keys() - own.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                f"{source}: {text} {min(names)}{more}: its config describes another network: {remedy}"
            )
    for name, weight in own.items():
        if weights[name].shape != weight.shape:
            raise CheckpointError(
                f"{source}: {name} has the shape {tuple(weights[name].shape)}, but in the network of its "
                f"config it has {tuple(weight.shape)}: {remedy}"
            )
        if not weights[name].float().isfinite().all():
            raise CheckpointError(
                f"{source}: {name} has values that are not finite: the run diverged: give a checkpoint of "
                f"another run, or an earlier one"
            )
