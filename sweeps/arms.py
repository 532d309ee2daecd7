"""The combinations of levels that a search space compares, and their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeps.dotted import get
from sweeps.errors import SpecError
from sweeps.spec import Factor, SweepSpec, When

# (config, settings, what) -> the whole config with the settings in it; raises SpecError
Configure = Callable[[dict[str, Any], Sequence[tuple[str, Any]], str], dict[str, Any]]


@dataclass
class Combination:
    """Some levels, and the config that they come to. A factor whose `when` is not met is absent."""

    levels: dict[str, Any]
    config: dict[str, Any]
    factors: frozenset[str]
    name: str = field(default="")

    def meets(self, when: When, key: str) -> bool:
        """Whether each path of `when`, a factor's name or a key of the config, has one of its values here."""
        return all(self._value(path, key) in values for path, values in when.items())

    def _value(self, path: str, key: str) -> Any:
        if path in self.levels:
            return self.levels[path]
        try:
            return get(self.config, path)
        except KeyError:
            if path in self.factors or "." in path:  # a factor, or a key, that this combination does not have
                return _ABSENT
            near = difflib.get_close_matches(path, sorted(self.factors), n=1)
            hint = f"did you mean {near[0]}?" if near else f"the factors are {', '.join(sorted(self.factors))}"
            raise SpecError(f"{key}.when: {path!r} is neither a factor nor a key of the config: {hint}") from None


_ABSENT = object()


def combinations(spec: SweepSpec, base: dict[str, Any], configure: Configure) -> list[Combination]:
    """The arms in order, the baseline first. Raises SpecError."""
    order = _in_order_of_need(spec.ablate)
    start = Combination({}, base, frozenset(spec.ablate))
    if spec.design == "full":
        found = [start]
        for name in order:
            found = [more for each in found for more in _extend(each, name, spec.ablate[name], configure)]
    else:
        found = [start]
        for name in order:
            alone = _extend(start, name, spec.ablate[name], configure)
            found += [each for each in alone if each.config != base]
    for name in spec.ablate:
        if not any(name in each.levels for each in found):
            reason = "its `when` is never met" if spec.ablate[name].when else "its only level is the base's own"
            raise SpecError(f"ablate.{name}: compares nothing: {reason}; mend it, or remove the factor")
    for each in found:
        each.levels = {name: each.levels[name] for name in spec.ablate if name in each.levels}
        each.name = "+".join(_label(name, level) for name, level in each.levels.items()) or "base"
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"ablate: two arms would be called {name!r}; give the levels names that differ")
    return found


def _extend(start: Combination, name: str, factor: Factor, configure: Configure) -> list[Combination]:
    """One combination for each level of the factor; `start` itself where the factor does not apply."""
    if not start.meets(factor.when, f"ablate.{name}"):
        return [start]
    return [
        Combination(
            {**start.levels, name: level},
            configure(start.config, list(settings.items()), f"ablate.{name}: level {level!r}"),
            start.factors,
        )
        for level, settings in factor.settings(name)
    ]


def _in_order_of_need(factors: dict[str, Factor]) -> list[str]:
    """Factors such that each comes after those that its `when` names or whose settings it looks at."""
    needs = {
        name: {
            other
            for other, its in factors.items()
            if other != name
            and any(path == other or path in settings for path in factor.when for _, settings in its.settings(other))
        }
        for name, factor in factors.items()
    }
    order: list[str] = []
    while len(order) < len(factors):
        ready = [name for name in factors if name not in order and needs[name] <= set(order)]
        if not ready:
            circle = sorted(set(factors) - set(order))
            raise SpecError(f"ablate: the `when` of {' and '.join(circle)} wait for each other; break the circle")
        order.append(ready[0])
    return order


def _label(factor: str, level: Any) -> str:
    """`mamba2`, `d_state=64`, `width=wide`: short, readable, and safe in a file's name."""
    last = factor.rpartition(".")[2]
    text = re.sub(r"[^A-Za-z0-9_.-]+", "_", _text(level)).strip("_") or "none"
    return text if last == "kind" else f"{last}={text}"


def _text(level: Any) -> str:
    if isinstance(level, list | tuple):
        return "-".join(_text(each) for each in level)
    if isinstance(level, dict):
        return "-".join(f"{key}_{_text(each)}" for key, each in level.items())
    return f"{level:g}" if isinstance(level, float) else str(level)
