"""Dotted paths into nested configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from trm.messages import models_in


def get(config: dict[str, Any], path: str) -> Any:
    """The value at a dotted path. Raises KeyError."""
    here: Any = config
    for part in path.split("."):
        if not isinstance(here, dict) or part not in here:
            raise KeyError(path)
        here = here[part]
    return here


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"model": {"mixer": {"kind": "mlp"}}} -> {"model.mixer.kind": "mlp"}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def overlap(one: str, other: str) -> bool:
    """Whether setting one path changes the other: `model.mixer` and `model.mixer.kind` do."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def path_keys(model: type[BaseModel], prefix: str = "") -> frozenset[str]:
    """The dotted keys of a model that hold a path in the file system."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        if _holds_path(field.annotation):
            found.add(f"{prefix}{name}")
        for member in models_in(field.annotation):
            found |= path_keys(member, f"{prefix}{name}.")
    return frozenset(found)


def _holds_path(annotation: Any) -> bool:
    return annotation is Path or any(_holds_path(part) for part in get_args(annotation))


def absolute(value: Any, key: str, keys: frozenset[str], folder: Path) -> Any:
    """`value`, to be set at `key`, with the relative paths in it taken from `folder`.

    `keys` are those of `path_keys`. Ray's workers run elsewhere, so no relative path may leave the driver.
    """
    if isinstance(value, dict):
        return {name: absolute(v, f"{key}.{name}".lstrip("."), keys, folder) for name, v in value.items()}
    if key not in keys:
        return value
    if isinstance(value, list):
        return [absolute(each, key, keys, folder) for each in value]
    return str(folder / Path(value).expanduser()) if isinstance(value, str) else value
