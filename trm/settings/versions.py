"""Configs across versions: what an older version recorded is read, and its sweep is the same sweep now.

A key that is added is left out of what is recorded while it has its default. A key that is renamed is read
under its old name too, and recorded under the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Config(BaseModel):
    """A frozen mapping of known keys, whose numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Fields that the first version did not have. At their default they are left out of what is recorded, so
    # that a sweep of that version is the same sweep as its space is now.
    added: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_added(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        left_out = self.left_out()
        return {name: value for name, value in content.items() if name not in left_out}

    def left_out(self) -> list[str]:
        """The fields that are not recorded, as they have the value that the first version acted by."""
        return [name for name in self.added if getattr(self, name) == type(self).model_fields[name].default]


def renamed_in(model: type[BaseModel]) -> Mapping[str, str]:
    """The old names of keys in a config, each with its new one. No other key in it has an old name."""
    renamed: Mapping[str, str] = getattr(model, "renamed", {})
    return renamed


def new_path(path: str, model: type[BaseModel]) -> str:
    """A dotted path with the names that its keys have now."""
    renamed = renamed_in(model)
    return ".".join(renamed.get(part, part) for part in path.split("."))


def with_new_names(tree: Any, model: type[BaseModel]) -> Any:
    """A copy of a config's mapping, nested or with dotted keys, with the names that its keys have now.

    An old name stays where the new one is given too, and is then refused as an unknown key.
    """
    if isinstance(tree, list):
        return [with_new_names(each, model) for each in tree]
    if not isinstance(tree, dict):
        return tree
    names = {key: new_path(key, model) if isinstance(key, str) else key for key in tree}
    return {
        key if names[key] in tree else names[key]: with_new_names(value, model) for key, value in tree.items()
    }
