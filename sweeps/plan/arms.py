"""The combinations of levels that a search space compares, and their names."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sweeps.plan.trainer import Trainer
from sweeps.space.dotted import get, overlap
from sweeps.space.errors import SpecError
from sweeps.space.schema import SweepSpec
from sweeps.space.values import Domain, Factor, When, topological_order
from trm.settings.messages import did_you_mean, dotted_keys

MAX_ARMS = 1000
MAX_NAME = 100  # characters: an arm's name is part of the names of files
_ABSENT = object()


@dataclass
class ArmDraft:
    """Some levels, and what they set. A factor whose `when` is not met has no level."""

    levels: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, tuple[str, Any]] = field(default_factory=dict)  # key -> (factor, value)
    name: str = "base"


class ArmBuilder:
    """Makes the arms of a search space from its base. `source` is the file that errors name."""

    def __init__(self, spec: SweepSpec, trainer: Trainer, source: str) -> None:
        self.spec, self.trainer, self.source = spec, trainer, source

    def config(self, found: ArmDraft) -> dict[str, Any]:
        """The whole config of a combination. Raises SpecError where the trainer does not take it."""
        settings = [(key, value) for key, (_, value) in found.settings.items()]
        levels = ", ".join(f"{name} = {level!r}" for name, level in found.levels.items())
        try:
            config = self.trainer.configure(self.spec.base, settings, f"{self.source}: ablate ({levels})")
        except SpecError as error:
            if "unknown key" in str(error) and len(found.levels) > 1:
                hint = "; where only some arms have it, say so: {values: [...], when: {other.key: [...]}}"
                raise SpecError(f"{error}{hint}") from error
            raise
        return config.model_dump(mode="json")

    def combinations(self) -> list[ArmDraft]:
        """The arms in order, the baseline first. Raises SpecError."""
        found = self._full() if self.spec.design == "full" else self._one_at_a_time()
        for each in found:
            each.levels = {name: each.levels[name] for name in self.spec.ablate if name in each.levels}
            each.name = self._name(each) or "base"
        self._refuse_idle_factors(found)
        if self.spec.design == "one_at_a_time":
            found = [self._with_base_levels(each) for each in found]
        names = [each.name for each in found]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"ablate: two arms would be called {name!r}: name levels, {{levels: ...}}")
        return found

    def _full(self) -> list[ArmDraft]:
        found = [ArmDraft()]
        for name in self._in_dependency_order():
            found = [more for each in found for more in self._extend(each, name)]
            if len(found) > MAX_ARMS:
                raise SpecError(f"ablate: comes to over {MAX_ARMS:,} arms: remove factors or levels")
        return found

    def _one_at_a_time(self) -> list[ArmDraft]:
        start = ArmDraft()
        base = self.config(start)
        alone = [each for name in self.spec.ablate for each in self._extend(start, name) if each is not start]
        return [start, *(each for each in alone if self.config(each) != base)]

    def _extend(self, start: ArmDraft, name: str) -> Iterator[ArmDraft]:
        """One combination for each level of the factor; `start` itself where the factor does not apply."""
        factor = self.spec.ablate[name]
        if not self.meets(start, factor.when):
            yield start
            return
        for level, sets in factor.settings(name):
            for one, other in itertools.combinations(sets, 2):
                if overlap(one, other):
                    both = f"{one} and {other}"
                    raise SpecError(f"ablate.{name}: level {level!r} sets {both}: one holds the other")
            for key in sets:
                rival = next((of for other, (of, _) in start.settings.items() if overlap(key, other)), None)
                if rival is not None:
                    raise SpecError(
                        f"ablate.{name}: sets {key}, which {rival} sets too: let one factor set it"
                    )
            settings = start.settings | {key: (name, value) for key, value in sets.items()}
            yield ArmDraft(start.levels | {name: level}, settings)

    def tuned(self, found: ArmDraft) -> dict[str, Domain]:
        """What is tuned here. Of each domain's `when` those conditions stay that look at other tuned values,
        which only a draw can meet."""
        here = dict(self.spec.tune)
        while True:
            of_arms = {
                name: {path: values for path, values in domain.when.items() if path not in here}
                for name, domain in here.items()
            }
            met = {name: domain for name, domain in here.items() if self.meets(found, of_arms[name])}
            if len(met) == len(here):
                return {
                    name: domain.model_copy(
                        update={"when": {path: domain.when[path] for path in domain.when if path in here}}
                    )
                    for name, domain in here.items()
                }
            here = met

    def resources(self, found: ArmDraft) -> tuple[float, float | str]:
        """CPUs and GPUs of a trial of this arm; of the entries that apply the last one counts."""
        cpu, gpu = self.spec.resources.cpu, self.spec.resources.gpu
        for each in self.spec.resources.per_arm:
            if self.meets(found, each.when):
                cpu = cpu if each.cpu is None else each.cpu
                gpu = gpu if each.gpu is None else each.gpu
        return cpu, gpu

    def meets(self, found: ArmDraft, when: When) -> bool:
        """Whether each path of `when`, a factor's name or a key of the config, has one of its values here."""
        return all(self._value(found, path) in values for path, values in when.items())

    def _value(self, found: ArmDraft, path: str) -> Any:
        if path in found.levels:
            return found.levels[path]
        try:
            return get(self.config(found), path)
        except KeyError:
            return _ABSENT

    def check_when(self, when: When, key: str) -> None:
        """Refuse a `when` that cannot be meant: no such key or factor, no such value. Raises SpecError."""
        known = dotted_keys(self.trainer.config_model)
        leaves = [key for key in known if not any(other.startswith(f"{key}.") for other in known)]
        for path, values in when.items():
            where = f"{self.source}: {key}.when.{path}"
            if key in (f"ablate.{path}", f"tune.{path}"):
                raise SpecError(f"{where}: looks at itself: name another key")
            if path in self.spec.tune:
                if not key.startswith("tune."):
                    raise SpecError(
                        f"{where}: is a tuned value, and this `when` looks at what an arm has before any "
                        f"draw: name a factor, or a key of the base"
                    )
                self._check_tuned_when(path, values, where)
                continue
            factor = self.spec.ablate.get(path)
            if factor is None:
                if path not in known and not any(path.startswith(f"{leaf}.") for leaf in leaves):
                    near = difflib.get_close_matches(path, self.spec.ablate, n=1)
                    hint = f"did you mean {near[0]}?" if near else did_you_mean(path, known)
                    raise SpecError(f"{where}: is neither a factor nor a key of the config: {hint}")
                continue
            levels = [level for level, _ in factor.settings(path)]
            for value in values:
                if value not in levels and (factor.levels is not None or not self._could_be(path, value)):
                    raise SpecError(f"{where}: {value!r} is no level of {path}: one of {levels}")

    def _check_tuned_when(self, path: str, values: list[Any], where: str) -> None:
        domain = self.spec.tune[path]
        if domain.choice is None and domain.kind != "int":
            raise SpecError(f"{where}: is {domain.kind}, of which no value can be named: use choice or int")
        low, high = (0, 0) if domain.choice is not None else domain.bounds
        for value in values:
            if domain.choice is not None:
                within = value in domain.choice
            else:
                within = type(value) is int and low <= value <= high
            if not within:
                raise SpecError(f"{where}: {value!r} is never drawn: one of {domain.ends}")

    def _could_be(self, path: str, value: Any) -> bool:
        """Whether the trainer takes this value: a `when` may name a level that is left out today."""
        try:
            self.trainer.configure(self.spec.base, [(path, value)], "")
        except SpecError:
            return False
        return True

    def _in_dependency_order(self) -> list[str]:
        """Factors such that each comes after those that its `when` names or whose settings it looks at."""
        factors = self.spec.ablate
        needs = {
            name: {other for other in factors if other != name and _looks_at(its.when, other, factors[other])}
            for name, its in factors.items()
        }
        return topological_order(needs, "ablate")

    def _refuse_idle_factors(self, found: list[ArmDraft]) -> None:
        for name, factor in self.spec.ablate.items():
            levels = [each.levels[name] for each in found if name in each.levels]
            if not levels:
                reason = "its `when` is never met" if factor.when else "its only level is the base's own"
                where = " (one_at_a_time looks from the base alone)" if self.spec.design != "full" else ""
                raise SpecError(f"ablate.{name}: compares nothing, as {reason}{where}: mend it, or remove it")
            if (
                len(levels) == len(found)
                and len(factor.settings(name)) == 1
                and self._is_the_bases(found, name)
            ):
                raise SpecError(
                    f"ablate.{name}: compares nothing, as its only level is the base's own: remove it"
                )

    def _is_the_bases(self, found: list[ArmDraft], name: str) -> bool:
        """Whether the arms are the same without what this factor sets."""
        for each in found:
            others = {key: setting for key, setting in each.settings.items() if setting[0] != name}
            if self.config(ArmDraft(each.levels, others)) != self.config(each):
                return False
        return True

    def _with_base_levels(self, found: ArmDraft) -> ArmDraft:
        """With the levels that the base has of the other factors, so that a table has no holes."""
        config = self.config(found)
        levels = {}
        for name, factor in self.spec.ablate.items():
            if name in found.levels:
                levels[name] = found.levels[name]
            elif factor.levels is None:
                if self.meets(found, factor.when) and (value := self._value(found, name)) is not _ABSENT:
                    levels[name] = value
            else:
                same = [level for level, sets in factor.levels.items() if _has(config, sets)]
                levels |= {name: same[0]} if same else {}
        return ArmDraft(levels, found.settings, found.name)

    def _name(self, found: ArmDraft) -> str:
        labels = []
        for factor, level in found.levels.items():
            text = re.sub(r"[^A-Za-z0-9_.-]+", "_", _text(level)).strip("_.") or "none"
            key = self._short(factor)
            labels.append(text if key == "kind" else f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', key)}={text}")
        name = "+".join(labels)
        if len(name) <= MAX_NAME:
            return name
        return f"{name[:MAX_NAME]}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def _short(self, factor: str) -> str:
        """The last part of a factor's path, or as many as tell it from the other factors."""
        parts = factor.split(".")
        for start in range(len(parts) - 1, 0, -1):
            tail = ".".join(parts[start:])
            others = [other for other in self.spec.ablate if other != factor]
            if tail == "kind" or not any(f".{other}".endswith(f".{tail}") for other in others):
                return tail
        return factor


def _looks_at(when: When, name: str, factor: Factor) -> bool:
    set_here = {key for _, sets in factor.settings(name) for key in sets}
    return any(path == name or any(overlap(path, key) for key in set_here) for path in when)


def _has(config: dict[str, Any], sets: dict[str, Any]) -> bool:
    try:
        return all(get(config, key) == value for key, value in sets.items())
    except KeyError:
        return False


def _text(level: Any) -> str:
    if isinstance(level, list | tuple):
        return "-".join(_text(each) for each in level)
    if isinstance(level, dict):
        return "-".join(f"{key}_{_text(each)}" for key, each in level.items())
    if isinstance(level, float) and float(f"{level:g}") == level:
        return f"{level:g}"
    return str(level).rpartition("/")[2] or str(level)
