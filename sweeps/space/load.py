"""Reads a search space: the YAML file, its base file, and the changes of `--set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.space.errors import SpecError
from sweeps.space.schema import SweepSpec
from sweeps.space.shipped import find_space
from trm.settings.messages import explain
from trm.settings.overrides import OverrideError, path_and_value
from trm.settings.yaml import MAX_NODES, YamlError, load_yaml


@dataclass(frozen=True)
class Sources:
    """The files of a space, for relative paths in it, and the changes of `--set` (dotted key, value)."""

    path: Path
    space_dir: Path
    base_dir: Path
    changes: tuple[tuple[str, Any], ...]


def load_spec(
    given: Path, overrides: Sequence[str] = (), name: str | None = None
) -> tuple[SweepSpec, Sources]:
    """Read a search space (a file, or the name of a shipped one) and its sources.

    Raises SpecError that names file, key, value and remedy.

    The sweep.yaml of an earlier sweep is a search space too; its `resolved` part is ignored.
    """
    path = find_space(given)
    raw = _mapping(path)
    raw.pop("resolved", None)
    base_dir = path.parent
    if isinstance(raw.get("base"), str):
        base_path = path.parent / raw["base"]
        if not base_path.is_file():
            raise SpecError(
                f"{path}: base: there is no file {base_path}: give a path relative to {path.name}"
            )
        raw["base"], base_dir = _mapping(base_path), base_path.parent
    raw["name"] = name if name is not None else raw.get("name", path.stem)
    try:
        spec = SweepSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(explain(error, SweepSpec, str(path))) from error
    changes = tuple(_parse_override(text) for text in overrides)
    return spec, Sources(path, path.parent.resolve(), base_dir.resolve(), changes)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(path)
    except YamlError as error:
        raise SpecError(str(error)) from error
    if not isinstance(content, Mapping):
        kind = "nothing" if content is None else type(content).__name__
        raise SpecError(f"{path}: must be a mapping of keys (it holds {kind}): see docs/search_spaces.md")
    stack: list[Any] = [content]
    for _ in range(MAX_NODES):
        node = stack.pop()
        stack += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if not stack:
            return dict(content)
    raise SpecError(f"{path}: has over {MAX_NODES:,} values once its aliases are followed: shorten it")


def _parse_override(text: str) -> tuple[str, Any]:
    try:
        return path_and_value(text, "model.h_cycles=2")
    except OverrideError as error:
        raise SpecError(f"--set {error}") from error
    except YamlError as error:
        raise SpecError(f"--set {text}: {error}") from error
