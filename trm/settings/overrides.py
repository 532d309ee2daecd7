"""A config's mapping by dotted paths, and its changes before validation: overrides, absolute file names."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from trm.settings.messages import Model, items_in, models_in
from trm.settings.versions import new_path, with_new_names
from trm.settings.yaml import parse_scalar


class OverrideError(ValueError):
    """A path that cannot be set; the message gives the reason and what to set instead."""


def path_and_value(text: str, example: str) -> tuple[str, Any]:
    """The two sides of a `path=value`; `example` is another one, for the message.

    Raises OverrideError if it is none, YamlError if the value cannot be read.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise OverrideError(f"{text}: give it as path=value, such as {example}")
    return path.strip(), parse_scalar(value)


def flatten(config: dict[str, Any], prefix: str = "", into_lists: bool = False) -> dict[str, Any]:
    """{"model": {"mixer": {"kind": "mlp"}}} -> {"model.mixer.kind": "mlp"}.

    With `into_lists` a list of mappings is flattened by index: {"mixers": [{"kind": 1}]} -> {"mixers.0.kind":
    1}.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if into_lists and isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            value = {str(index): each for index, each in enumerate(value)}
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}.", into_lists))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def override(config: dict[str, Any], values: Iterable[tuple[str, Any]], model: Model) -> dict[str, Any]:
    """A copy of `config` with each dotted path set. `model` is the pydantic model that will validate it.

    A number in a path is a list index, from 0; if that item is a string, it becomes a mapping with the string
    as its `kind`. Setting a tag, such as `model.mixer.kind`, drops the keys that only another kind has.
    Mappings are set before their keys, and tags before their siblings, so that the order of `values` has no
    effect. Keys that have another name now may have their old one; the copy has the new one.
    Raises OverrideError if a path leads through a scalar.
    """
    named = [(new_path(path, model), with_new_names(value, model)) for path, value in values]
    return set_paths(with_new_names(config, model), named, model)


def set_paths(config: dict[str, Any], values: Iterable[tuple[str, Any]], model: Model) -> dict[str, Any]:
    """As `override`, but every key keeps the name that it has."""
    result = copy.deepcopy(config)
    tagged = [(path, value, _members(path, model)) for path, value in values]
    for path, value, members in sorted(tagged, key=lambda item: (item[0].count("."), not item[2])):
        *parents, name = path.split(".")
        node = result
        for parent in parents:
            node = _inside(node, parent, path)
        if isinstance(node, list):
            node[_index(node, name, path)] = value
            continue
        if members and str(value) in members and node.get(name) != value:
            known = members[str(value)].model_fields
            for key in [key for key in node if key not in known]:
                del node[key]
        node[name] = value
    return result


def _inside(node: Any, key: str, path: str) -> Any:
    """The mapping or list at `key` of `node`, created if it is missing. Raises OverrideError."""
    if isinstance(node, list):
        index = _index(node, key, path)
        if isinstance(node[index], str):
            node[index] = {"kind": node[index]}
        child = node[index]
    else:
        child = node.setdefault(key, {})
    if not isinstance(child, dict | list):
        raise OverrideError(f"{path}: {key} is {child!r}, which has no keys: set {key} itself")
    return child


def _index(items: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise OverrideError(
            f"{path}: {key} is not an index of a list of {len(items)}: give 0"
            + (f" to {len(items) - 1}" if len(items) > 1 else "")
            + ", or set the list itself"
        )
    return int(key)


def absolute_paths(config: dict[str, Any], model: Model, folder: Path) -> dict[str, Any]:
    """A copy of `config` in which relative file names are absolute, resolved from `folder`."""
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
    """The members of a union by tag if `path` is the union's tag, else an empty dict."""
    options: list[Any] = [model]  # the types allowed at the key reached so far
    *parents, name = path.split(".")
    for parent in parents:
        if parent.isdecimal():
            options = [item for annotation in options for item in items_in(annotation)]
        else:
            models = [each for annotation in options for each in models_in(annotation)]
            options = [each.model_fields[parent].annotation for each in models if parent in each.model_fields]
    holders = [each for annotation in options for each in models_in(annotation)]
    if len(holders) < 2:
        return {}
    annotations = [
        (holder, holder.model_fields[name].annotation) for holder in holders if name in holder.model_fields
    ]
    tags = {  # a set, as several unions may contain the same pair
        (tag, holder) for holder, kind in annotations if get_origin(kind) is Literal for tag in get_args(kind)
    }
    return (
        dict(tags) if len(dict(tags)) == len(tags) else {}
    )  # a tag that two members have identifies neither
