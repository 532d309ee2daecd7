"""A trainer by its name: the function, its config's model, and what its module says beforehand."""

from __future__ import annotations

import difflib
import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sweeps.errors import SpecError


@dataclass(frozen=True)
class Trainer:
    """`function(config, trial)`; `describe(config)` and `check(config)` where the module has them.

    `describe` returns what is known before training: num_params, flops_per_sample, horizon_key, warmup_samples,
    metrics (names), effective (the config as it takes effect). `check` raises ValueError for unusable data.
    """

    name: str
    function: Callable[[Any, Any], None]
    config_model: type[BaseModel]
    describe: Callable[[Any], dict[str, Any]]
    check: Callable[[Any], None]


def import_trainer(name: str) -> Trainer:
    """Import `package.module:function`. Raises SpecError."""
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name:
        raise SpecError(f"trainer: {name!r} must be package.module:function, such as trm.trainer:train")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SpecError(
            f"trainer: {name}: there is no module {error.name!r}; check the spelling, or launch from the folder "
            f"that holds it"
        ) from error
    except Exception as error:
        raise SpecError(f"trainer: {name}: importing it failed: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        near = difflib.get_close_matches(function_name, [n for n in vars(module) if not n.startswith("_")], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SpecError(f"trainer: {name}: {module_name} has no function {function_name!r}{hint}")
    return Trainer(
        name=name,
        function=function,
        config_model=_config_model(name, function),
        describe=getattr(module, "describe", lambda config: {}),
        check=getattr(module, "check", lambda config: None),
    )


def _config_model(name: str, function: Callable[..., None]) -> type[BaseModel]:
    """The pydantic model that the function's first parameter is annotated with."""
    parameters = list(inspect.signature(function).parameters)
    hints = typing.get_type_hints(function)
    model = hints.get(parameters[0]) if len(parameters) >= 2 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SpecError(
            f"trainer: {name}: must be a function (config, trial) whose config is annotated with a pydantic model"
        )
    return model
