"""The two things that a search space varies: factors, which are compared, and domains, which are tuned."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sweeps.space.errors import SpecError


class Section(BaseModel):
    """A mapping in the YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


# path -> values. A factor or domain applies if each path has one of its values.
When = dict[str, Annotated[list[Any], BeforeValidator(_listed)]]


Reals = tuple[float, float]
Integers = tuple[int, int]  # an alias, as the name `int` is a field inside Domain


class Domain(Section):
    """The range or choices that a tuned value is drawn from: `{loguniform: [1.0e-4, 1.0e-2]}`.

    Exactly one kind is given, and `when` if the domain does not always apply. Both bounds are inclusive.
    """

    uniform: Reals | None = None
    loguniform: Reals | None = None
    int: Integers | None = None
    logint: Integers | None = None
    choice: list[Any] | None = Field(None, min_length=1)
    when: When = {}

    @model_validator(mode="after")
    def _one_kind_in_order(self) -> Self:
        kinds = [name for name in DOMAINS if getattr(self, name) is not None]
        if len(kinds) != 1:
            given = ", ".join(kinds) or "none"
            raise ValueError(
                f"must have exactly one of {', '.join(DOMAINS)} (given: {given}): such as uniform: [0, 1]"
            )
        if self.choice is not None:
            refuse_duplicates(self.choice)
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"{self.kind}: low must be below high (given [{low}, {high}]): widen it")
        if self.kind.startswith("log") and low <= 0:
            raise ValueError(f"{self.kind}: low must be above 0 (given {low}): raise it, or drop the log")
        return self

    @property
    def kind(self) -> str:
        return next(name for name in DOMAINS if getattr(self, name) is not None)

    @property
    def bounds(self) -> tuple[float, float]:
        low, high = getattr(self, self.kind)
        return low, high

    @property
    def ends(self) -> list[Any]:
        """Values to validate a config with: every choice, or both bounds."""
        return list(self.choice) if self.choice is not None else list(self.bounds)


DOMAINS = ("uniform", "loguniform", "int", "logint", "choice")


class Factor(Section):
    """A factor to compare: a list of values of one key, or named levels that each set one or more keys."""

    values: list[Any] | None = Field(None, min_length=1)
    levels: dict[str, dict[str, Any]] | None = Field(None, min_length=1)
    when: When = {}

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, list | dict):
            raise ValueError(f"must be a list of levels, such as [{value}, ...] (given {value!r})")
        return {"values": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _values_or_levels(self) -> Self:
        if (self.values is None) == (self.levels is None):
            raise ValueError(
                "must have either values or levels: give [value, ...], {values: [...]} or "
                "{levels: {name: {key: value}}}"
            )
        refuse_duplicates(self.values or [])
        for name, settings in (self.levels or {}).items():
            if not settings:
                raise ValueError(f"level {name!r} sets nothing: give it {{key: value}}")
        return self

    def settings(self, key: str) -> list[tuple[Any, dict[str, Any]]]:
        """Each level with the keys and values that it sets, in order. `key` is the factor's own name: a
        factor without named levels sets that key."""
        if self.levels is not None:
            return list(self.levels.items())
        return [(value, {key: value}) for value in self.values or []]


def topological_order(needs: Mapping[str, set[str]], section: str) -> list[str]:
    """The names of `needs`, each after those that it needs, and otherwise in their original order.

    Raises SpecError if some need each other in a cycle; `section` is the key of the YAML that it names.
    """
    sorter, position = TopologicalSorter(needs), {name: index for index, name in enumerate(needs)}
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " and ".join(dict.fromkeys(error.args[1]))
        raise SpecError(
            f"{section}: the `when` of {cycle} depend on each other: remove one of these conditions"
        ) from error
    order: list[str] = []
    ready: set[str] = set()
    while sorter.is_active():
        ready.update(sorter.get_ready())
        order.append(min(ready, key=position.__getitem__))
        ready.remove(order[-1])
        sorter.done(order[-1])
    return order


def refuse_duplicates(values: list[Any]) -> list[Any]:
    """The same list. Raises ValueError if it has a value twice; 1 and true count as different values."""
    seen: set[Any] = set()
    unhashable: list[Any] = []  # lists and mappings, of which there are few
    for value in values:
        if isinstance(value, Hashable):
            is_known = (type(value), value) in seen
            seen.add((type(value), value))
        else:
            is_known = any(value == other and type(value) is type(other) for other in unhashable)
            unhashable.append(value)
        if is_known:
            raise ValueError(f"{value!r} stands twice: remove one")
    return values
