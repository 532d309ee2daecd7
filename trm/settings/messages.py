"""Pydantic's validation errors as messages: file, key, given value and remedy, one line per error."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Model = type[BaseModel]
_MAX_VALUE = 80  # characters shown of an invalid value


class UsageError(ValueError):
    """Bad input; the message says what was given, what is allowed and what to do."""


def explain(error: ValidationError, model: Model, source: str) -> str:
    """A line for each error, `source: key: what is wrong (given value): remedy`.

    `model` is the pydantic model that was validated; unknown keys are compared with all of its dotted keys.
    """
    errors = _without_consequences(error.errors(), model)
    return "\n".join(f"{source}: {_explain_one(details, model)}" for details in errors)


def dotted_keys(model: Model) -> list[str]:
    """All keys of a model and its nested models, as dotted paths, with the keys of all members of a union."""
    keys: dict[str, None] = {}
    for name, field in model.model_fields.items():
        keys[name] = None
        for member in models_in(field.annotation):
            keys.update((f"{name}.{key}", None) for key in dotted_keys(member))
    return list(keys)


def did_you_mean(key: str, known: list[str]) -> str:
    """The remedy for an unknown dotted key: the nearest key in `known`, or the list of its siblings."""
    parent, _, name = key.rpartition(".")
    siblings = [other for other in known if other.rpartition(".")[0] == parent]
    namesakes = [other for other in known if other.rpartition(".")[2] == name]
    names = {other.rpartition(".")[2]: other for other in siblings}
    nearest = (
        [names[match] for match in difflib.get_close_matches(name, names, n=1)]
        or namesakes[:1]
        or difflib.get_close_matches(key, known, n=1, cutoff=0.85)
    )
    if nearest:
        return f"did you mean {nearest[0]}?"
    return f"the keys here are {', '.join(names)}" if names else "remove it"


def _options(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows, with Annotated, Optional and unions resolved."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _options(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _options(member)
    else:
        yield annotation


def _is_model(annotation: Any) -> TypeGuard[Model]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def models_in(annotation: Any) -> list[Model]:
    return [option for option in _options(annotation) if _is_model(option)]


def _key_of(loc: tuple[int | str, ...], model: Model) -> tuple[str, list[Model]]:
    """The dotted key of pydantic's `loc`, which also names union members, and the models that contain it."""
    parts: list[str] = []
    options: list[Any] = [model]  # the types allowed at the key reached so far
    parents: list[Model] = []
    for name in loc:
        models = [option for option in options if _is_model(option)]
        fields = [holder.model_fields[str(name)] for holder in models if name in holder.model_fields]
        members = [option for option in options if len(options) > 1 and _is_member(option, str(name))]
        if members and not fields:
            options = members
            continue
        items = [_item(option) for option in options if get_args(option)]
        parts.append(str(name))
        parents = models
        options = [o for annotation in [f.annotation for f in fields] or items for o in _options(annotation)]
    return ".".join(parts), parents


def items_in(annotation: Any) -> list[Any]:
    """The item types of the lists and tuples that an annotation allows."""
    options = [option for option in _options(annotation) if get_origin(option) in (list, tuple)]
    return [_item(option) for option in options]


def _item(container: Any) -> Any:
    """The type of a list's items or a dict's values; Any for a Literal."""
    if get_origin(container) is Literal:
        return Any
    return [each for each in get_args(container) if each is not ...][-1]


def _is_member(option: Any, name: str) -> bool:
    """Whether `name` is pydantic's name of this union member: a tag, a class, or a printed type."""
    if _is_model(option):
        return name == option.__name__ or any(
            get_origin(field.annotation) is Literal and name in get_args(field.annotation)
            for field in option.model_fields.values()
        )
    outer = get_origin(option) or option
    outer_name = "literal" if outer is Literal else getattr(outer, "__name__", str(outer))
    name = name.removeprefix("constrained-")
    return name == outer_name or name.startswith(f"{outer_name}[")


def _without_consequences(errors: list[ErrorDetails], model: Model) -> Iterator[ErrorDetails]:
    """The errors without those that only follow from others.

    These are "list too short" if entries of the list are invalid, and, for a value that may be a list or a
    scalar, the errors of the alternative that was not meant.
    """
    keys = [_key_of(details["loc"], model)[0] for details in errors]
    for key, details in zip(keys, errors, strict=True):
        beside, inside = keys.count(key) > 1, any(other.startswith(f"{key}.") for other in keys)
        match details["type"]:
            case "too_short":
                is_consequence = inside
            case "tuple_type" | "list_type":
                is_consequence = beside
            case _:
                is_consequence = isinstance(details["input"], list) and (beside or inside)
        if not is_consequence:
            yield details


def _explain_one(details: ErrorDetails, model: Model) -> str:
    key, parents = _key_of(details["loc"], model)
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            prefix = key.rpartition(".")[0]
            siblings = [f"{prefix}.{k}".lstrip(".") for parent in parents for k in dotted_keys(parent)]
            known = siblings + [other for other in dotted_keys(model) if other not in siblings]
            if prefix:  # keys of a union's other members are not allowed here
                known = [k for k in known if k in siblings or not k.startswith(f"{prefix}.")]
            return f"{key}: unknown key (given {_shown(details['input'])}): {did_you_mean(key, known)}"
        case "missing":
            return f"{key}: is required: add it"
        case "union_tag_invalid":
            tag, allowed = str(context["tag"]), context["expected_tags"].replace("'", "").split(", ")
            near = difflib.get_close_matches(tag, allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return f"{_tagged(key, context)}: unknown (given {tag!r}): one of {', '.join(allowed)}{hint}"
        case "union_tag_not_found":
            return f"{_tagged(key, context)}: is required: say which kind this is"
        case "too_short":
            least = context["min_length"]
            items = f"{least} item{'s' * (least > 1)}"
            return f"{key}: must have at least {items} (given {_shown(details['input'])})"
        case "tuple_type":
            return f"{key}: must be a list (given {_shown(details['input'])})"
        case "value_error":
            return f"{key}: {context['error']}" if key else str(context["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{key or 'top level'}: must be a mapping of keys (given {_shown(details['input'])})"
        case _:
            wrong = details["msg"].replace("Input should be", "must be", 1)
            return f"{key}: {wrong[:1].lower()}{wrong[1:]} (given {_shown(details['input'])})"


def _tagged(key: str, context: dict[str, Any]) -> str:
    discriminator = context["discriminator"].strip("'")
    return f"{key}.{discriminator}" if key else discriminator


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 3]}..."
