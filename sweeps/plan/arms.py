"""Builds the arms of a search space: the combinations of its factors' levels, and their names.

`sweeps.plan.build` calls it. `ArmBuilder` also evaluates every `when`, and gives each arm's tuned domains and
resources.
"""

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
from sweeps.space.errors import SpecError, SpecErrors
from sweeps.space.schema import SweepSpec
from sweeps.space.values import Domain, Factor, When, topological_order
from trm.settings.messages import did_you_mean, dotted_keys
from trm.settings.versions import new_path

MAX_ARMS = 1000
MAX_NAME = 100  # characters: an arm's name is part of file names
_ABSENT = object()


@dataclass
class ArmDraft:
    """An arm under construction: its levels, and the keys that they set. A factor whose `when` is not met has
    no level."""

    levels: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, tuple[str, Any]] = field(default_factory=dict)  # key -> (factor, value)
    name: str = "base"

    @property
    def said(self) -> str:
        """The draft as messages name it."""
        return f"ablate ({', '.join(f'{name} = {level!r}' for name, level in self.levels.items())})"


class ArmBuilder:
    """Builds the arms of a search space. `source` is the file that error messages name."""

    def __init__(self, spec: SweepSpec, trainer: Trainer, source: str) -> None:
        self.spec, self.trainer, self.source = spec, trainer, source

    def config(self, found: ArmDraft) -> dict[str, Any]:
        """The whole config of an arm. Raises SpecError if it does not fit the trainer's config model."""
        settings = [(key, value) for key, (_, value) in found.settings.items()]
        try:
            config = self.trainer.configure(self.spec.base, settings, f"{self.source}: {found.said}")
        except SpecError as error:
            if "unknown key" in str(error) and len(found.levels) > 1:
                hint = "; if only some arms have it, add a `when`: {values: [...], when: {other.key: [...]}}"
                raise SpecError(f"{error}{hint}") from error
            raise
        return config.model_dump(mode="json")

    def combinations(self) -> list[ArmDraft]:
        """The arms in order, the baseline first. Raises SpecError, with the errors of all arms."""
        errors = SpecErrors()
        drafts = self._full(errors) if self.spec.design == "full" else self._one_at_a_time(errors)
        for draft in drafts:
            draft.levels = {name: draft.levels[name] for name in self.spec.ablate if name in draft.levels}
            draft.name = self._name(draft) or "base"
            with errors.of(draft.said):
                self.config(draft)
        errors.raise_any()
        self._refuse_idle_factors(drafts)
        if self.spec.design == "one_at_a_time":
            drafts = [self._with_base_levels(draft) for draft in drafts]
        names = [draft.name for draft in drafts]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(
                    f"ablate: two arms would have the name {name!r}: give their levels names, {{levels: ...}}"
                )
        return drafts

    def _full(self, errors: SpecErrors) -> list[ArmDraft]:
        """Every combination of levels, without those that are in `errors`."""
        drafts = [ArmDraft()]
        for name in self._in_dependency_order():
            drafts = self._extended(drafts, name, errors)
            if len(drafts) > MAX_ARMS:
                raise SpecError(f"ablate: gives over {MAX_ARMS:,} arms: remove factors or levels")
        return drafts

    def _one_at_a_time(self, errors: SpecErrors) -> list[ArmDraft]:
        """The base, and each level alone that differs from it, without those that are in `errors`."""
        start = ArmDraft()
        base = self.config(start)
        drafts = [start]
        for name in self.spec.ablate:
            for draft in self._extended([start], name, errors):
                with errors.of(draft.said):
                    drafts += [draft] if self.config(draft) != base else []
        return drafts

    def _extended(self, drafts: list[ArmDraft], name: str, errors: SpecErrors) -> list[ArmDraft]:
        """Each draft with each level of the factor."""
        found: list[ArmDraft] = []
        for draft in drafts:
            with errors.of(draft.said):
                found += self._extend(draft, name)
        return found

    def _extend(self, start: ArmDraft, name: str) -> Iterator[ArmDraft]:
        """`start` with each level of the factor; only `start` itself if the factor's `when` is not met."""
        factor = self.spec.ablate[name]
        if not self.meets(start, factor.when):
            yield start
            return
        for level, sets in factor.settings(name):
            for one, other in itertools.combinations(sets, 2):
                if overlap(one, other):
                    both = f"{one} and {other}"
                    raise SpecError(
                        f"ablate.{name}: level {level!r} sets {both}, one inside the other: set one of them"
                    )
            for key in sets:
                rival = next(
                    (factor for other, (factor, _) in start.settings.items() if overlap(key, other)), None
                )
                if rival is not None:
                    raise SpecError(
                        f"ablate.{name}: sets {key}, which {rival} sets too: let one factor set it"
                    )
            settings = start.settings | {key: (name, value) for key, value in sets.items()}
            yield ArmDraft(start.levels | {name: level}, settings)

    def tuned(self, draft: ArmDraft) -> dict[str, Domain]:
        """The domains that apply to the arm. Their `when` keeps only the conditions on other tuned values,
        which depend on the draw."""
        domains = dict(self.spec.tune)
        while True:  # a domain that is dropped may be named in the `when` of another
            conditions = {
                name: {path: values for path, values in domain.when.items() if path not in domains}
                for name, domain in domains.items()
            }
            applying = {
                name: domain for name, domain in domains.items() if self.meets(draft, conditions[name])
            }
            if len(applying) == len(domains):
                return {
                    name: domain.model_copy(
                        update={"when": {path: domain.when[path] for path in domain.when if path in domains}}
                    )
                    for name, domain in domains.items()
                }
            domains = applying

    def resources(self, draft: ArmDraft) -> tuple[float, float | str]:
        """The CPUs and GPUs of a trial of the arm. If several entries of `per_arm` apply, the last one
        counts."""
        cpu, gpu = self.spec.resources.cpu, self.spec.resources.gpu
        for entry in self.spec.resources.per_arm:
            if self.meets(draft, entry.when):
                cpu = cpu if entry.cpu is None else entry.cpu
                gpu = gpu if entry.gpu is None else entry.gpu
        return cpu, gpu

    def meets(self, draft: ArmDraft, when: When) -> bool:
        """Whether every path of `when` (a factor's name or a key of the config) has one of its values in the
        arm."""
        return all(self._value(draft, path) in values for path, values in when.items())

    def _value(self, draft: ArmDraft, path: str) -> Any:
        if path in draft.levels:
            return draft.levels[path]
        try:
            return get(self.config(draft), new_path(path, self.trainer.config_model))
        except KeyError:
            return _ABSENT

    def check_when(self, when: When, key: str) -> None:
        """Refuse a `when` that names an unknown key, factor or value. `key` is where it stands, such as
        "ablate.width". Raises SpecError."""
        config_keys = dotted_keys(self.trainer.config_model)
        for path, values in when.items():
            where = f"{self.source}: {key}.when.{path}"
            if key in (f"ablate.{path}", f"tune.{path}"):
                raise SpecError(f"{where}: is the key that the `when` belongs to: name another key")
            if path in self.spec.tune:
                if not key.startswith("tune."):
                    raise SpecError(
                        f"{where}: is a tuned value, but this `when` is evaluated before any draw: name a "
                        f"factor, or a key of the base"
                    )
                self._check_tuned_when(path, values, where)
            elif path in self.spec.ablate:
                self._check_factor_when(path, values, where)
            else:
                self._check_config_when(path, config_keys, where)

    def _check_tuned_when(self, path: str, values: list[Any], where: str) -> None:
        domain = self.spec.tune[path]
        if domain.choice is None and domain.kind != "int":
            raise SpecError(
                f"{where}: is {domain.kind}, and single values of it cannot be named: use choice or int"
            )
        low, high = (0, 0) if domain.choice is not None else domain.bounds
        for value in values:
            if domain.choice is not None:
                is_possible = value in domain.choice
            else:
                is_possible = type(value) is int and low <= value <= high
            if not is_possible:
                raise SpecError(f"{where}: {value!r} is never drawn: one of {domain.ends}")

    def _check_factor_when(self, path: str, values: list[Any], where: str) -> None:
        factor = self.spec.ablate[path]
        levels = [level for level, _ in factor.settings(path)]
        for value in values:
            if value not in levels and (factor.levels is not None or not self._is_valid_value(path, value)):
                raise SpecError(f"{where}: {value!r} is not a level of {path}: one of {levels}")

    def _check_config_when(self, path: str, config_keys: list[str], where: str) -> None:
        path = new_path(path, self.trainer.config_model)
        leaves = [key for key in config_keys if not any(other.startswith(f"{key}.") for other in config_keys)]
        if path not in config_keys and not any(path.startswith(f"{leaf}.") for leaf in leaves):
            near = difflib.get_close_matches(path, self.spec.ablate, n=1)
            hint = f"did you mean {near[0]}?" if near else did_you_mean(path, config_keys)
            raise SpecError(f"{where}: is neither a factor nor a key of the config: {hint}")

    def _is_valid_value(self, path: str, value: Any) -> bool:
        """Whether the config accepts this value: a `when` may name a value that is currently not a level."""
        try:
            self.trainer.configure(self.spec.base, [(path, value)], "")
        except SpecError:
            return False
        return True

    def _in_dependency_order(self) -> list[str]:
        """The factors, each after those that its `when` depends on."""
        factors = self.spec.ablate
        needs = {
            name: {
                other
                for other in factors
                if other != name and _depends_on(factor.when, other, factors[other])
            }
            for name, factor in factors.items()
        }
        return topological_order(needs, "ablate")

    def _refuse_idle_factors(self, drafts: list[ArmDraft]) -> None:
        """Raise SpecError for a factor that makes no difference between the arms."""
        for name, factor in self.spec.ablate.items():
            levels = [draft.levels[name] for draft in drafts if name in draft.levels]
            if not levels:
                for draft in drafts:
                    self.config(draft)  # a misspelt level of the factor that `when` names is the error then
                reason = "its `when` is never met" if factor.when else "its only level is the base's own"
                where = " (one_at_a_time evaluates it on the base only)" if self.spec.design != "full" else ""
                raise SpecError(f"ablate.{name}: compares nothing, as {reason}{where}: change or remove it")
            if (
                len(levels) == len(drafts)
                and len(factor.settings(name)) == 1
                and self._changes_nothing(drafts, name)
            ):
                raise SpecError(
                    f"ablate.{name}: compares nothing, as its only level is the base's own: remove it"
                )

    def _changes_nothing(self, drafts: list[ArmDraft], name: str) -> bool:
        """Whether every arm's config is the same without this factor's settings."""
        for draft in drafts:
            others = {key: setting for key, setting in draft.settings.items() if setting[0] != name}
            if self.config(ArmDraft(draft.levels, others)) != self.config(draft):
                return False
        return True

    def _with_base_levels(self, draft: ArmDraft) -> ArmDraft:
        """The draft with the base's levels of the factors that it leaves out, so that no cell of a table is
        blank."""
        config = self.config(draft)
        levels = {}
        for name, factor in self.spec.ablate.items():
            if name in draft.levels:
                levels[name] = draft.levels[name]
            elif factor.levels is None:
                if self.meets(draft, factor.when) and (value := self._value(draft, name)) is not _ABSENT:
                    levels[name] = value
            else:
                same = [level for level, sets in factor.levels.items() if _contains(config, sets)]
                levels |= {name: same[0]} if same else {}
        return ArmDraft(levels, draft.settings, draft.name)

    def _name(self, draft: ArmDraft) -> str:
        """The levels joined by "+", such as "mamba+d_state=16"; shortened with a hash if it is too long."""
        labels = []
        for factor, level in draft.levels.items():
            text = re.sub(r"[^A-Za-z0-9_.-]+", "_", _text(level)).strip("_.") or "none"
            key = self._short_name(factor)
            labels.append(text if key == "kind" else f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', key)}={text}")
        name = "+".join(labels)
        if len(name) <= MAX_NAME:
            return name
        return f"{name[:MAX_NAME]}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def _short_name(self, factor: str) -> str:
        """The last parts of a factor's path: as many as distinguish it from the other factors."""
        parts = factor.split(".")
        for start in range(len(parts) - 1, 0, -1):
            tail = ".".join(parts[start:])
            others = [other for other in self.spec.ablate if other != factor]
            if tail == "kind" or not any(f".{other}".endswith(f".{tail}") for other in others):
                return tail
        return factor


def _depends_on(when: When, name: str, factor: Factor) -> bool:
    """Whether `when` names the factor, or a key that one of its levels sets."""
    keys = {key for _, sets in factor.settings(name) for key in sets}
    return any(path == name or any(overlap(path, key) for key in keys) for path in when)


def _contains(config: dict[str, Any], settings: dict[str, Any]) -> bool:
    try:
        return all(get(config, key) == value for key, value in settings.items())
    except KeyError:
        return False


def _text(level: Any) -> str:
    """A level as part of an arm's name; a path is shortened to its file name."""
    if isinstance(level, list | tuple):
        return "-".join(_text(each) for each in level)
    if isinstance(level, dict):
        return "-".join(f"{key}_{_text(each)}" for key, each in level.items())
    if isinstance(level, float) and float(f"{level:g}") == level:
        return f"{level:g}"
    return str(level).rpartition("/")[2] or str(level)
