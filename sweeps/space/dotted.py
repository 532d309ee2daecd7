"""Dotted paths into nested configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trm.settings.overrides import absolute_paths, set_paths


def get(config: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, in which a number is an index into a list. Raises KeyError."""
    node: Any = config
    for part in path.split("."):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, dict) or part not in node:
            raise KeyError(path)
        node = node[part]
    return node


def overlap(one: str, other: str) -> bool:
    """Whether setting one path changes the other, as with `model.mixer` and `model.mixer.kind`."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def absolute_at(key: str, value: Any, model: type[BaseModel], folder: Path) -> Any:
    """`value` with the relative file paths in it made absolute, relative to `folder`. It is a value of the
    dotted `key` of `model`, whose annotations say what is a path.

    Ray's workers run in another directory, so the driver must not pass them relative paths.
    """
    return get(absolute_paths(set_paths({}, [(key, value)], model), model, folder), key)
