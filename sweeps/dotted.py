"""Dotted paths into nested configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel


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


def make_paths_absolute(raw: dict[str, Any], config: BaseModel, folder: Path) -> dict[str, Any]:
    """`raw` with its relative paths taken from `folder`; a path is what `config`, which is `raw` validated,
    holds as one. Ray's workers run elsewhere, so no relative path may leave the driver."""
    for path, value in _paths(config):
        *parents, name = path
        here: Any = raw
        for parent in parents:
            here = here.get(parent) if isinstance(here, dict) else None
        if isinstance(here, dict) and here.get(name) is not None:
            here[name] = str(folder / value)
    return raw


def _paths(config: BaseModel, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Path]]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Path):
            yield (*prefix, name), value
        elif isinstance(value, BaseModel):
            yield from _paths(value, (*prefix, name))
