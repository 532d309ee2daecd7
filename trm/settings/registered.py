"""Tables of config classes by name, for mixers, tasks and schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TypeVar

from pydantic import BaseModel

Config = TypeVar("Config", bound=BaseModel)


def configs_in(package: str, names: Sequence[str], base: type[Config], tag: str) -> dict[str, type[Config]]:
    """By name, the subclass of `base` in module PACKAGE.NAME whose field `tag` has the default NAME.

    Raises TypeError, which names the module, if it has no such class.
    """
    return {name: _config_in(f"{package}.{name}", name, base, tag) for name in names}


def _config_in(module: str, name: str, base: type[Config], tag: str) -> type[Config]:
    for value in vars(import_module(module)).values():
        fields = value.model_fields if isinstance(value, type) and issubclass(value, base) else {}
        if tag in fields and fields[tag].default == name:
            return value
    raise TypeError(f"{module}: has no {base.__name__} with {tag}: Literal[{name!r}] = {name!r}: add one")
