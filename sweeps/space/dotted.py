"""Dotted paths into nested configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trm.settings.overrides import absolute_paths, override


def get(config: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, in which a number is a place in a list. Raises KeyError."""
    here: Any = config
    for part in path.split("."):
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            here = here[int(part)]
            continue
        if not isinstance(here, dict) or part not in here:
            raise KeyError(path)
        here = here[part]
    return here


def flatten(config: dict[str, Any], prefix: str = "", into_lists: bool = False) -> dict[str, Any]:
    """{"model": {"mixer": {"kind": "mlp"}}} -> {"model.mixer.kind": "mlp"}.

    With `into_lists` a list of mappings goes by place: {"mixers": [{"kind": ...}]} -> {"mixers.0.kind": ...}.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if into_lists and isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            value = {str(place): each for place, each in enumerate(value)}
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}.", into_lists))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def overlap(one: str, other: str) -> bool:
    """Whether setting one path changes the other: `model.mixer` and `model.mixer.kind` do."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def absolute_at(key: str, value: Any, model: type[BaseModel], folder: Path) -> Any:
    """`value`, to be set at the dotted `key` of `model`, with relative file names in it taken from `folder`.

    Ray's workers run elsewhere, so no relative path may leave the driver.
    """
    return get(absolute_paths(override({}, [(key, value)], model), model, folder), key)
