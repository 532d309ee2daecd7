"""A config's mapping before it is validated: `path=value` settings, and relative file names."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from trm.messages import Model, models_in


class OverrideError(ValueError):
    """A path that cannot be set; the message says why, and what to set instead."""


def override(config: dict[str, Any], values: Iterable[tuple[str, Any]], model: Model) -> dict[str, Any]:
    """A copy of `config` with each dotted path set. `model` is the pydantic model that it is to fit.

    Setting a tag, such as `model.mixer.kind`, drops the keys that only another kind has; tags are set first,
    so that the order of `values` changes nothing. Raises OverrideError where a path leads through a value.
    """
    result = copy.deepcopy(config)
    tagged = [(path, value, _members(path, model)) for path, value in values]
    for path, value, members in sorted(tagged, key=lambda item: not item[2]):
        *parents, name = path.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise OverrideError(f"{path}: {parent} is {node!r}, which has no keys: set {parent} itself")
        if members and str(value) in members and node.get(name) != value:
            known = members[str(value)].model_fields
            for key in [key for key in node if key not in known]:
                del node[key]
        node[name] = value
    return result


def absolute_paths(config: dict[str, Any], model: Model, folder: Path) -> dict[str, Any]:
    """A copy of `config` with the relative file names in it taken from `folder`."""
    fields = model.model_fields
    return {
        key: _absolute(value, fields[key].annotation, folder) if key in fields else value
        for key, value in config.items()
    }


def _absolute(value: Any, annotation: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        for member in models_in(annotation):
            value = absolute_paths(value, member, folder)
    elif isinstance(value, str) and (annotation is Path or Path in get_args(annotation)):
        return str((folder / Path(value).expanduser()).absolute())
    return value


def _members(path: str, model: Model) -> dict[str, Model]:
    """The members of a union by tag where `path` is the tag of one; else none."""
    holders: list[Model] = [model]
    *parents, name = path.split(".")
    for parent in parents:
        fields = [holder.model_fields[parent] for holder in holders if parent in holder.model_fields]
        holders = [member for field in fields for member in models_in(field.annotation)]
    if len(holders) < 2:
        return {}
    annotations = [
        (holder, holder.model_fields[name].annotation) for holder in holders if name in holder.model_fields
    ]
    tags = [
        (tag, holder) for holder, kind in annotations if get_origin(kind) is Literal for tag in get_args(kind)
    ]
    return dict(tags) if len(dict(tags)) == len(tags) else {}  # a value that two of them have tells none
