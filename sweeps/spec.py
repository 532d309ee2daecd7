"""The YAML of a search space: its schema, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


# For a key to apply, each path named here must have one of the values listed.
When = dict[str, Annotated[list[Any], BeforeValidator(_listed)]]


class Domain(_Spec):
    """What a tuned value is drawn from: `{loguniform: [1.0e-4, 1.0e-2]}`; one of the kinds, and `when`."""

    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    int: tuple[int, int] | None = None
    logint: tuple[int, int] | None = None
    choice: list[Any] | None = Field(None, min_length=1)
    when: When = {}

    @model_validator(mode="after")
    def _one_kind_in_order(self) -> Self:
        kinds = [name for name in DOMAINS if getattr(self, name) is not None]
        if len(kinds) != 1:
            given = ", ".join(kinds) or "none"
            raise ValueError(f"give exactly one of {', '.join(DOMAINS)} (given: {given})")
        if self.choice is not None:
            _refuse_duplicates(self.choice)
            return self
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"{self.kind}: the low end must be below the high end (given {low}, {high})")
        if self.kind.startswith("log") and low <= 0:
            raise ValueError(f"{self.kind}: the low end must be above 0 (given {low})")
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
            raise ValueError("give a list of values, {values: [...]}, or {levels: {name: {key: value}}}")
        _refuse_duplicates(self.values or [])
        for name, settings in (self.levels or {}).items():
            if not settings:
                raise ValueError(f"level {name!r} sets nothing; give it {{key: value}}")
        return self

    def settings(self, key: str) -> list[tuple[Any, dict[str, Any]]]:
        """(level, what it sets) in order; `key` is the factor's own, which a plain value is set at."""
        if self.levels is not None:
            return list(self.levels.items())
        return [(value, {key: value}) for value in self.values or []]


def _refuse_duplicates(values: list[Any]) -> None:
    for index, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:index]):
            raise ValueError(f"{value!r} stands twice; remove one")


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
        if self.algorithm != "grid" and self.keep > self.draws_per_arm:
            raise ValueError(f"keep is {self.keep}, but draws_per_arm is {self.draws_per_arm}; lower keep")
        return self


class SchedulerSpec(_Spec):
    """Early stopping. `metric` and `mode` are the objective's unless given."""

    kind: Literal["asha", "median", "fixed", "fifo"] = "fifo"
    scope: Literal["arm", "sweep"] | None = None  # arm where something is tuned, else sweep
    metric: str = ""
    mode: Literal["min", "max"] = "max"
    time_attr: str = "samples"
    grace_period: float = Field(0, ge=0)
    max_t: float | None = Field(None, gt=0)
    reduction_factor: float = Field(3, gt=1)
    keep: int = Field(1, ge=1)  # of `fixed`

    @model_validator(mode="after")
    def _has_rungs(self) -> Self:
        if self.kind == "fifo":
            return self
        if self.grace_period <= 0:
            raise ValueError(f"kind {self.kind} needs grace_period, where the first rung is (in {self.time_attr})")
        if self.max_t is not None and self.grace_period >= self.max_t:
            raise ValueError(
                f"grace_period is {self.grace_period:g}, but max_t is {self.max_t:g}: a first rung at the end "
                f"of the run stops nobody; lower grace_period"
            )
        return self

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
            raise ValueError(f"above 1 only whole GPUs can be had (given {gpu}); give a share below 1, or round")
        return gpu


class SweepSpec(_Spec):
    """A search space as resolved: the base is inlined and `--set` is in it."""

    name: str
    trainer: str = "trm.trainer:train"
    base: dict[str, Any] = {}
    objective: Objective = Objective(metric="val/exact_accuracy", mode="max")
    ablate: dict[str, Factor] = Field(min_length=1)
    design: Literal["full", "one_at_a_time"] = "full"
    tune: dict[str, Domain] = {}
    search: SearchSpec = SearchSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    seeds: Seeds = [1]
    resources: Resources = Resources()
    max_concurrent: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    max_failures: int = Field(1, ge=0)

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} must be letters, digits, '.', '_' and '-': it names a folder")
        return name

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        _refuse_duplicates(self.seeds)
        if not self.tune and "search" in self.model_fields_set:
            raise ValueError("search: there is nothing to search without `tune`; remove search, or add tune")
        both = set(self.tune) & set(self.ablate)
        if both:
            raise ValueError(f"tune.{min(both)}: is compared under `ablate` too; it can be one of the two")
        shared = sorted(set(self.seeds) & set(self.search.seeds)) if self.tune else []
        if shared:
            raise ValueError(
                f"seeds: {shared} are also under search.seeds; a draw that was chosen on a seed must be shown on "
                f"others (the winner's curse): give other numbers"
            )
        return self


def load_spec(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> tuple[SweepSpec, Sources]:
    """Read a search space, and where its parts come from. Raises SpecError naming file, key, value, remedy."""
    raw = _mapping(path, "a search space")
    raw.pop("resolved", None)
    if "budget" in raw:
        raise SpecError(f"{path}: budget: is not supported yet; bound the sweep by scheduler.max_t and draws")
    base_dir = path.parent
    if isinstance(raw.get("base"), str):
        base_path = path.parent / raw["base"]
        raw["base"], base_dir = _mapping(base_path, f"the base of {path}"), base_path.parent
    raw["name"] = name or raw.get("name") or path.stem
    try:
        spec = SweepSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(explain(error, SweepSpec, str(path))) from error
    changes = [_parse_override(text) for text in overrides]
    return spec, Sources(path=path, space_dir=path.parent.resolve(), base_dir=base_dir.resolve(), changes=changes)


class Sources(BaseModel):
    """Where relative paths in a space are taken from, and what `--set` asks for."""

    path: Path
    space_dir: Path
    base_dir: Path
    changes: list[tuple[str, Any]]


def _mapping(path: Path, what: str) -> dict[str, Any]:
    try:
        found = load_yaml(path)
    except YamlError as error:
        raise SpecError(str(error)) from error
    if not isinstance(found, Mapping):
        raise SpecError(f"{path}: must hold a mapping of keys, {what} (found {type(found).__name__})")
    return dict(found)


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {text}: must be path=value, such as model.h_cycles=2")
    try:
        return key.strip(), parse_scalar(value)
    except YamlError as error:
        raise SpecError(f"--set {text}: {error}") from error
