"""Imports a trainer by its name: its function, its config's pydantic model, and its module's other
functions."""

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
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sweeps.space.dotted import get
from sweeps.space.errors import SpecError
from trm.settings.messages import did_you_mean, dotted_keys, explain, models_in
from trm.settings.overrides import OverrideError, override

T = TypeVar("T")


@dataclass(frozen=True)
class Trainer:
    """A trainer: `function(config, trial)`, and the optional functions of its module.

    `describe(config)` returns a dict of what is known before training: num_params, flops_per_sample,
    effective_depth, horizon_key (the config key of a trial's length in samples), samples_per_step (a trial's
    length is rounded up to a multiple of it; default: 1), samples_per_report (a trial reports at its
    multiples, and at its end), warmup_samples, metrics (names), units (share, percent or none, by the
    metric's name), needs_gpu, notes (what is allowed, but may not be what was meant), gpu_notes (what to know
    before a run on a GPU), effective (the part of the config that has an effect), extendable (a longer run
    begins exactly as a shorter one).
    `gpu_memory(config)` returns the bytes that a trial needs on a GPU, estimated.
    `check(config)` raises ValueError for data that cannot be used, and returns the data's hash or None. It is
    called on the launching machine, and on each node of a cluster.
    `calibrate(config, device)` runs a few steps; see sweeps.execute.measure.
    """

    name: str
    function: Callable[[Any, Any], None]
    config_model: type[BaseModel]
    describe_function: Callable[[Any], dict[str, Any]]
    check: Callable[[Any], str | None]
    calibrate: Callable[[Any, str], dict[str, Any]] | None = None
    memory_function: Callable[[Any], int] | None = None

    def configure(self, base: dict[str, Any], settings: Iterable[tuple[str, Any]], source: str) -> BaseModel:
        """The validated config: `base` with each dotted path set. `source` is where the settings come from,
        for messages. Raises SpecError if the config does not fit the model."""
        try:
            tree = self.override(base, settings)
            _refuse_unknown(tree, [self.config_model], self.config_model, source)
            return self.config_model.model_validate(tree)
        except OverrideError as error:
            raise SpecError(f"{source}: {error}") from error
        except ValidationError as error:
            raise SpecError(explain(error, self.config_model, source)) from error

    def override(self, base: dict[str, Any], settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """`base` with each dotted path set, not validated. Setting a tag, such as a mixer's kind, removes the
        keys that the new kind does not have."""
        return override(base, settings, self.config_model)

    def describe(self, config: BaseModel) -> dict[str, Any]:
        """What the trainer's `describe` returns; {} if it has none. Raises SpecError if `describe` fails."""
        return self._asked("describe", lambda: dict(self.describe_function(config)))

    def horizon(self, config: BaseModel, description: dict[str, Any]) -> float | None:
        """The samples of a whole trial, which the config has at horizon_key; None if the trainer names no
        such key. Raises SpecError if it is not a number."""
        key = description.get("horizon_key")
        if key is None:
            return None
        try:
            return float(get(config.model_dump(), key))
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(
                f"trainer: describe() returns horizon_key {key}, which is not a number in the config: name "
                f"the key of a trial's length in samples"
            ) from error

    def gpu_memory(self, config: BaseModel) -> int | None:
        """The bytes that a trial needs on a GPU, estimated; None if the trainer has no `gpu_memory`. Raises
        SpecError if that fails."""
        function = self.memory_function
        return None if function is None else self._asked("gpu_memory", lambda: int(function(config)))

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Exception as error:
            raise SpecError(
                f"trainer: {self.name}: {what}(config) failed ({type(error).__name__}: {error}): fix or "
                f"remove it"
            ) from error


def _refuse_unknown(
    tree: dict[str, Any], models: list[type[BaseModel]], root: type[BaseModel], source: str, prefix: str = ""
) -> None:
    """Raise SpecError for a key that no model has. Pydantic ignores such keys by default, so that a misspelt
    key would have no effect.

    `models` are the models that `tree` may be validated with.
    """
    if any(model.model_config.get("extra") is not None for model in models):
        return  # the model allows or forbids unknown keys itself
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
        memory_function=getattr(module, "gpu_memory", None),
    )


def _import_module(name: str, module_name: str) -> ModuleType:
    """Import the module. As with `python -m`, it may be in the current folder. Raises SpecError."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SpecError(
            f"trainer: {name}: there is no module {error.name!r}: check the spelling, or launch from the "
            f"folder that contains it"
        ) from error
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"trainer: {name}: importing it failed ({type(error).__name__}: {error}): fix the module"
        ) from error


def _config_model(name: str, function: Callable[..., None]) -> type[BaseModel]:
    """The pydantic model with which the function's first parameter is annotated. Raises SpecError."""
    try:
        parameters = list(inspect.signature(function).parameters)
        hints = typing.get_type_hints(function)
    except Exception as error:  # evaluating annotations runs code
        raise SpecError(f"trainer: {name}: its annotations cannot be read ({error}): fix them") from error
    model = hints.get(parameters[0]) if len(parameters) >= 2 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SpecError(
            f"trainer: {name}: must be a function (config, trial) whose config is annotated with a pydantic "
            f"model (its parameters are: {', '.join(parameters) or 'none'}): annotate the first one"
        )
    return model
