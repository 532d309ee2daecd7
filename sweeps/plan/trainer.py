"""A trainer by its name: the function, its config's model, and what its module says beforehand."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from sweeps.space.errors import SpecError
from trm.settings.messages import did_you_mean, dotted_keys, explain, models_in
from trm.settings.overrides import OverrideError, override


@dataclass(frozen=True)
class Trainer:
    """`function(config, trial)`; `describe(config)` and `check(config)` where the module has them.

    `describe` returns what is known before training: num_params, flops_per_sample, effective_depth,
    horizon_key, warmup_samples, metrics (names), needs_gpu, effective (the config as it takes effect),
    extendable (a longer run begins as a shorter one). `check` raises ValueError for data that cannot be used,
    and returns a hash of them, or None. `calibrate(config, device)` takes a few steps; see
    sweeps.execute.measure.
    """

    name: str
    function: Callable[[Any, Any], None]
    config_model: type[BaseModel]
    describe_function: Callable[[Any], dict[str, Any]]
    check: Callable[[Any], str | None]
    calibrate: Callable[[Any, str], dict[str, Any]] | None = None

    def configure(self, base: dict[str, Any], settings: Iterable[tuple[str, Any]], source: str) -> BaseModel:
        """The config: `base` with each dotted path set. Raises SpecError where it does not fit."""
        try:
            tree = self.override(base, settings)
            _refuse_unknown(tree, [self.config_model], self.config_model, source)
            return self.config_model.model_validate(tree)
        except OverrideError as error:
            raise SpecError(f"{source}: {error}") from error
        except ValidationError as error:
            raise SpecError(explain(error, self.config_model, source)) from error

    def override(self, base: dict[str, Any], settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """`base` with each dotted path set; not validated. Setting a tag drops what only another kind has."""
        return override(base, settings, self.config_model)

    def describe(self, config: BaseModel) -> dict[str, Any]:
        """What the trainer says of a trial beforehand; {} where it says nothing. Raises SpecError."""
        try:
            return dict(self.describe_function(config))
        except Exception as error:
            raise SpecError(
                f"trainer: {self.name}: describe(config) failed ({type(error).__name__}: {error}): mend it, "
                f"or remove it"
            ) from error


def _refuse_unknown(
    tree: dict[str, Any], models: list[type[BaseModel]], root: type[BaseModel], source: str, prefix: str = ""
) -> None:
    """Pydantic passes unknown keys over unless a model forbids them: a misspelt one would change nothing.

    `models` are those that `tree` may be of. Raises SpecError.
    """
    if any(model.model_config.get("extra") is not None for model in models):
        return  # allowed on purpose, or refused by the model itself
    for key, value in tree.items():
        fields = [
            field
            for model in models
            for name, field in model.model_fields.items()
            if key in (name, field.alias)
        ]
        if not fields:
            hint = did_you_mean(f"{prefix}{key}", dotted_keys(root))
            raise SpecError(f"{source}: {prefix}{key}: unknown key (given {value!r}): {hint}")
        inner = [member for field in fields for member in models_in(field.annotation)]
        if isinstance(value, dict) and inner:
            _refuse_unknown(value, inner, root, source, f"{prefix}{key}.")


def import_trainer(name: str) -> Trainer:
    """Import `package.module:function`. Raises SpecError."""
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name:
        raise SpecError(f"trainer: {name!r} must be package.module:function, such as trm.trainer:train")
    module = _import_module(name, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        public = [k for k, value in vars(module).items() if not k.startswith("_") and callable(value)]
        near = difflib.get_close_matches(function_name, public, n=1)
        hint = f"did you mean {near[0]}?" if near else "check the spelling"
        raise SpecError(f"trainer: {name}: {module_name} has no function {function_name!r}: {hint}")
    return Trainer(
        name=name,
        function=function,
        config_model=_config_model(name, function),
        describe_function=getattr(module, "describe", lambda config: {}),
        check=getattr(module, "check", lambda config: None),
        calibrate=getattr(module, "calibrate", None),
    )


def _import_module(name: str, module_name: str) -> ModuleType:
    """The module, also from the folder where the command was given, as with `python -m`."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SpecError(
            f"trainer: {name}: there is no module {error.name!r}: check the spelling, or launch from the "
            f"folder that holds it"
        ) from error
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"trainer: {name}: importing it failed ({type(error).__name__}: {error}): mend the module"
        ) from error


def _config_model(name: str, function: Callable[..., None]) -> type[BaseModel]:
    """The pydantic model that the function's first parameter is annotated with."""
    try:
        parameters = list(inspect.signature(function).parameters)
        hints = typing.get_type_hints(function)
    except Exception as error:  # annotations are code
        raise SpecError(f"trainer: {name}: its annotations cannot be read ({error}): mend them") from error
    model = hints.get(parameters[0]) if len(parameters) >= 2 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SpecError(
            f"trainer: {name}: must be a function (config, trial) whose config is annotated with a pydantic "
            f"model (its parameters are: {', '.join(parameters) or 'none'}): annotate the first one"
        )
    return model
