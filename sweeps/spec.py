"""The YAML of a search space: its schema, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sweeps.errors import SpecError
from trm.messages import explain
from trm.yaml import YamlError, load_yaml, parse_scalar

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MAX_NODES = 100_000  # values in a file, aliases followed: more is a mistake, or a bomb


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


# For a key to apply, each path named here must have one of the values listed.
When = dict[str, Annotated[list[Any], BeforeValidator(_listed)]]


Reals = tuple[float, float]
Integers = tuple[int, int]  # named here, as inside Domain `int` is the field


class Domain(_Spec):
    """What a tuned value is drawn from: `{loguniform: [1.0e-4, 1.0e-2]}`; one of the kinds, and `when`.

    The low and the high end are part of the domain.
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
            _refuse_duplicates(self.choice)
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"{self.kind}: low must be below high (given [{low}, {high}]): swap or widen them")
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
        """Values that must be valid if all are: every choice, or both ends."""
        return list(self.choice) if self.choice is not None else list(self.bounds)


DOMAINS = ("uniform", "loguniform", "int", "logint", "choice")


class Factor(_Spec):
    """What is compared: a list of a key's values, or named levels that set several keys each."""

    values: list[Any] | None = Field(None, min_length=1)
    levels: dict[str, dict[str, Any]] | None = Field(None, min_length=1)
    when: When = {}

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"values": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _values_or_levels(self) -> Self:
        if (self.values is None) == (self.levels is None):
            raise ValueError(
                "must have either values or levels: give [value, ...], {values: [...]} or "
                "{levels: {name: {key: value}}}"
            )
        _refuse_duplicates(self.values or [])
        for name, settings in (self.levels or {}).items():
            if not settings:
                raise ValueError(f"level {name!r} sets nothing: give it {{key: value}}")
        return self

    def settings(self, key: str) -> list[tuple[Any, dict[str, Any]]]:
        """(level, what it sets) in order; `key` is the factor's own, which a plain value is set at."""
        if self.levels is not None:
            return list(self.levels.items())
        return [(value, {key: value}) for value in self.values or []]


def _refuse_duplicates(values: list[Any]) -> None:
    for index, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:index]):
            raise ValueError(f"{value!r} stands twice: remove one")


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Objective(_Spec):
    metric: str
    mode: Literal["min", "max"]


class SearchSpec(_Spec):
    """How the tuned values are looked for. `keep` draws an arm go on to the evidence."""

    algorithm: Literal["sobol", "tpe", "random", "grid"] = "sobol"
    draws_per_arm: int = Field(8, ge=1)
    seeds: Seeds = [0]
    keep: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _can_keep(self) -> Self:
        _refuse_duplicates(self.seeds)
        if self.algorithm == "grid":
            if "draws_per_arm" in self.model_fields_set:
                raise ValueError("draws_per_arm is not for a grid, which has every combination: remove it")
        elif self.keep > self.draws_per_arm:
            raise ValueError(f"keep is {self.keep}, but draws_per_arm is {self.draws_per_arm}: lower keep")
        return self

    def in_force(self) -> dict[str, Any]:
        """The keys that mean something for this algorithm."""
        return self.model_dump(mode="json", exclude={"draws_per_arm"} if self.algorithm == "grid" else None)


# The scheduler's keys that belong to some kinds only; max_t is for all, as it is the horizon.
_RUNGS = ("asha", "median", "fixed")
ONLY_FOR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("scope", "metric", "mode", "time_attr", "grace_period"), _RUNGS),
    "reduction_factor": ("asha",),
    "keep": ("fixed",),
}
WALL_CLOCK = re.compile(r"wall_s|time_.*|.*_time|timestamp|training_iteration")


class SchedulerSpec(_Spec):
    """Early stopping. The plan fills in what is left out: `scope`, `metric`, `mode` (the objective's), `max_t`."""

    kind: Literal["asha", "median", "fixed", "fifo"] = "fifo"
    scope: Literal["arm", "sweep"] | None = None  # arm where something is tuned, else sweep
    metric: str | None = None
    mode: Literal["min", "max"] | None = None
    time_attr: str = "samples"
    grace_period: float = Field(0, ge=0)  # the first rung, in `time_attr`
    max_t: float | None = Field(None, gt=0)
    reduction_factor: float = Field(3, gt=1)
    keep: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        for key in sorted(self.model_fields_set & ONLY_FOR.keys()):
            if self.kind not in ONLY_FOR[key]:
                kinds = " and ".join(ONLY_FOR[key])
                raise ValueError(f"{key} is for kind {kinds}, but kind is {self.kind}: remove {key}, or set kind")
        if self.kind == "fifo":
            return self
        if WALL_CLOCK.fullmatch(self.time_attr):
            raise ValueError(
                f"time_attr is {self.time_attr}, which differs from machine to machine, or counts reports: use "
                f"samples or flops"
            )
        if self.grace_period <= 0:
            raise ValueError(
                f"kind {self.kind} needs grace_period above 0, the first rung, in {self.time_attr} "
                f"(given {self.grace_period:g}): a tenth of max_t is a start"
            )
        if self.max_t is not None and self.grace_period >= self.max_t:
            raise ValueError(
                f"grace_period is {self.grace_period:g}, but max_t is {self.max_t:g}: a first rung at the end "
                f"of the run stops nobody: lower grace_period"
            )
        return self

    def in_force(self) -> dict[str, Any]:
        """The keys that mean something for this kind."""
        unused = {key for key, kinds in ONLY_FOR.items() if self.kind not in kinds}
        return self.model_dump(mode="json", exclude=unused, exclude_none=True)

    @property
    def horizon(self) -> float:
        """`max_t`, which the plan fills in from the base where the YAML leaves it out."""
        assert self.max_t is not None
        return self.max_t


class Resources(_Spec):
    """Of one trial."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)

    @field_validator("gpu")
    @classmethod
    def _whole_or_a_share(cls, gpu: float) -> float:
        if gpu > 1 and gpu != int(gpu):
            raise ValueError(f"above 1 only whole GPUs can be had (given {gpu}): give a share below 1, or round")
        return gpu


class SweepSpec(_Spec):
    """A search space as resolved: the base is inlined and `--set` is in it."""

    name: str
    trainer: str = "trm.trainer:train"
    base: dict[str, Any] = {}
    objective: Objective = Objective(metric="val/exact_accuracy", mode="max")
    ablate: dict[str, Factor] = {}
    design: Literal["full", "one_at_a_time"] = "full"
    tune: dict[str, Domain] = {}
    search: SearchSpec = SearchSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    seeds: Seeds = [1, 2, 3, 4, 5]
    resources: Resources = Resources()
    max_concurrent: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    max_failures: int = Field(1, ge=0)

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a folder: use letters, digits, '.', '_' and '-', a letter or digit first"
            )
        return name

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        _refuse_duplicates(self.seeds)
        if not (self.ablate or self.tune):
            raise ValueError("there is nothing to compare and nothing to tune: add ablate, or tune")
        if not self.tune and "search" in self.model_fields_set:
            raise ValueError("search: there is nothing to search without tune: remove search, or add tune")
        both = set(self.tune) & set(self.ablate)
        if both:
            raise ValueError(f"tune.{min(both)}: is compared under ablate too: it can be one of the two")
        shared = sorted(set(self.seeds) & set(self.search.seeds)) if self.tune else []
        if shared:
            raise ValueError(
                f"seeds: {shared} are also under search.seeds: a draw that was chosen on a seed must be shown on "
                f"others (the winner's curse): give other numbers"
            )
        return self


@dataclass(frozen=True)
class Sources:
    """Where relative paths in a space are taken from, and what `--set` asks for."""

    path: Path
    space_dir: Path
    base_dir: Path
    changes: tuple[tuple[str, Any], ...]


def load_spec(
    path: Path, overrides: Sequence[str] = (), name: str | None = None
) -> tuple[SweepSpec, Sources]:
    """Read a search space, and where its parts come from. Raises SpecError naming file, key, value, remedy.

    A sweep.yaml that a sweep has left is a search space too; what it came to (`resolved`) is passed over.
    """
    raw = _mapping(path)
    raw.pop("resolved", None)
    if "budget" in raw:
        raise SpecError(
            f"{path}: budget: is not supported yet (given {raw['budget']}): remove it, and bound the sweep by "
            f"scheduler.max_t, draws and seeds"
        )
    base_dir = path.parent
    if isinstance(raw.get("base"), str):
        base_path = path.parent / raw["base"]
        if not base_path.is_file():
            raise SpecError(f"{path}: base: there is no file {base_path}: give its path relative to this file")
        raw["base"], base_dir = _mapping(base_path), base_path.parent
    raw["name"] = name or raw.get("name") or path.stem
    try:
        spec = SweepSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(explain(error, SweepSpec, str(path))) from error
    changes = tuple(_parse_override(text) for text in overrides)
    return spec, Sources(path, path.parent.resolve(), base_dir.resolve(), changes)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = load_yaml(path)
    except YamlError as error:
        raise SpecError(str(error)) from error
    if not isinstance(found, Mapping):
        given = "nothing" if found is None else type(found).__name__
        raise SpecError(f"{path}: must be a mapping of keys (it holds {given}): see docs/search_spaces.md")
    left = [found]
    for nodes in range(MAX_NODES + 1):
        if not left:
            return dict(found)
        here = left.pop()
        left += here.values() if isinstance(here, dict) else here if isinstance(here, list) else ()
    raise SpecError(f"{path}: has over {nodes:,} values once its aliases are followed: shorten it")


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {text}: give it as path=value, such as model.h_cycles=2")
    try:
        return key.strip(), parse_scalar(value)
    except YamlError as error:
        raise SpecError(f"--set {text}: {error}") from error
