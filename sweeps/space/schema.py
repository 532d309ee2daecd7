"""The YAML of a search space: its schema, and how it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, create_model, field_validator, model_validator

from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.registry import SCHEDULERS, own_keys
from sweeps.space.names import RESERVED, name_problem
from sweeps.space.values import Domain, Factor, Section, When, refuse_duplicates

WEEK_S = 7 * 24 * 3600
LEAST_CPU = 1e-4  # Ray counts cores in steps of this
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(refuse_duplicates)]
MoreSeeds = Annotated[list[Seed], AfterValidator(refuse_duplicates)]
# Config keys that take the trial's seed, so that it redraws the data too.
SeedKeys = Annotated[list[str], AfterValidator(refuse_duplicates)]


def _metric_name(name: str) -> str:
    if why := name_problem(name, RESERVED):
        raise ValueError(f"{name!r} {why}")
    return name


MetricName = Annotated[str, AfterValidator(_metric_name)]
UnitName = Literal["share", "percent", "none"]  # 0 to 1, 0 to 100, any number


class Objective(Section):
    """The metric that ranks the arms. The plan fills in `unit` where it is left out."""

    metric: MetricName
    mode: Literal["min", "max"]
    unit: UnitName | None = None


class SearchSpec(Section):
    """How the tuned values are looked for. `keep` draws an arm go on to the evidence: those with the best
    results, or those that are best on a surface that smooths the results (`sweeps.decide.surface`)."""

    algorithm: Literal["sobol", "tpe", "random", "grid"] = "sobol"
    draws_per_arm: int = Field(8, ge=1, le=10_000)
    seeds: Seeds = Field([0])
    keep: int = Field(1, ge=1)
    choose: Literal["best", "smoothed"] = "best"

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if self.choose == "smoothed" and self.algorithm == "tpe":
            raise ValueError(
                "choose: smoothed is not for tpe, which draws where results came out well, by luck too: "
                "set algorithm sobol or random, or choose best"
            )
        return self

    @model_validator(mode="after")
    def _can_keep(self) -> Self:
        if self.algorithm == "grid":
            if "draws_per_arm" in self.model_fields_set:
                raise ValueError("draws_per_arm is not for a grid, which has every combination: remove it")
        elif self.keep > self.draws_per_arm:
            raise ValueError(f"keep is {self.keep}, but draws_per_arm is {self.draws_per_arm}: lower keep")
        return self

    def effective_keys(self) -> dict[str, Any]:
        """The keys that mean something for this algorithm. The default of `choose` is left out: sweeps were
        recorded before there was that key."""
        unused = {"draws_per_arm"} if self.algorithm == "grid" else set()
        return self.model_dump(mode="json", exclude=unused | ({"choose"} if self.choose == "best" else set()))


# The scheduler's keys that belong to some kinds only; max_t is for all, as it is the horizon.
_STOPPING = tuple(kind for kind, scheduler in SCHEDULERS.items() if scheduler.stops)
ONLY_FOR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("scope", "metric", "mode", "time_attr", "grace_period", "audit"), _STOPPING),
    **{key: tuple(kind for kind in SCHEDULERS if key in SCHEDULERS[kind].own_keys()) for key in own_keys()},
}
WALL_CLOCK = re.compile(r"wall_s|time_.*|.*_time|timestamp|training_iteration")


class _SharedKeys(Section):
    """Keys of every kind of scheduler."""

    kind: str = "fifo"
    scope: Literal["arm", "sweep"] | None = None  # arm where something is tuned, else sweep
    metric: MetricName = ""
    mode: Literal["min", "max"] | None = None
    time_attr: str = "samples"
    grace_period: float = Field(0, ge=0)  # the first rung, in `time_attr`
    max_t: float | None = Field(None, gt=0)


if _clash := set(own_keys()) & {*_SharedKeys.model_fields, "audit"}:
    raise TypeError(f"sweeps.schedulers: {min(_clash)} is a key of every scheduler: rename the field")

if TYPE_CHECKING:
    _AllKeys = _SharedKeys
else:
    _AllKeys = create_model(  # made from a table
        "_AllKeys",
        __base__=_SharedKeys,
        kind=(Literal[tuple(SCHEDULERS)], "fifo"),
        **{key: (field.annotation, field) for key, field in own_keys().items()},
    )


class SchedulerSpec(_AllKeys):
    """Early stopping. The plan fills in what is left out: `scope`, `metric` and `mode` (the objective's) and
    `max_t` (the base's horizon). What a kind's own keys mean stands in `sweeps.schedulers`."""

    audit: float = Field(0, ge=0, lt=1)  # this share of those to be stopped runs on, for the report

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if not self.stops:
            return self
        if WALL_CLOCK.fullmatch(self.time_attr):
            raise ValueError(
                f"time_attr is {self.time_attr}, which differs from machine to machine, or counts "
                f"reports: use samples or flops"
            )
        if self.grace_period <= 0:
            raise ValueError(
                f"kind {self.kind} needs grace_period above 0, the first rung, in {self.time_attr} "
                f"(given {self.grace_period:g}): a tenth of max_t is a start"
            )
        if self.max_t is not None and self.grace_period >= self.max_t:
            raise ValueError(
                f"grace_period is {self.grace_period:g}, but max_t is {self.max_t:g}: a first rung at "
                f"the end of the run stops nobody: lower grace_period"
            )
        return self

    @property
    def stops(self) -> bool:
        """Whether trials may be stopped at all."""
        return SCHEDULERS[self.kind].stops

    @property
    def unused_keys(self) -> set[str]:
        """Keys that mean nothing for this kind."""
        return {key for key, kinds in ONLY_FOR.items() if self.kind not in kinds}

    def effective_keys(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude=self.unused_keys, exclude_none=True)

    def build(self) -> Scheduler:
        """The scheduler of this kind with these keys. One that stops needs `max_t`, which the plan fills in
        from the base where the YAML leaves it out."""
        kind = SCHEDULERS[self.kind]
        return kind.model_validate(self.model_dump(include=set(kind.model_fields), exclude_none=True))


def _whole_or_a_share(gpu: Any) -> Any:
    """ "auto", the number of GPUs, or a share of one."""
    if gpu == "auto":
        return gpu
    if isinstance(gpu, bool) or not isinstance(gpu, int | float):
        raise ValueError(f"must be a number, or auto (given {gpu!r})")
    if gpu < 0:
        raise ValueError(f"must be 0 or more (given {gpu})")
    if gpu > 1 and gpu != int(gpu):
        raise ValueError(f"above 1 only whole GPUs can be had (given {gpu}): round it")
    return float(gpu)


GPU = Annotated[Any, AfterValidator(_whole_or_a_share)]


class ArmResources(Section):
    """What the trials of some arms need otherwise than the rest."""

    when: When
    cpu: float | None = Field(None, ge=LEAST_CPU)
    gpu: GPU | None = None


class TrialResources(Section):
    """Of one trial. `gpu: auto` is the share of a GPU whose memory a trial of the arm is measured to need."""

    cpu: float = Field(1, ge=LEAST_CPU)
    gpu: GPU = 0.0
    per_arm: list[ArmResources] = Field([])


class Budget(Section):
    """What a sweep may use, over all of its launches; the first limit that is reached ends it."""

    trials: int | None = Field(None, ge=1)
    wall_h: float | None = Field(None, gt=0)
    gpu_h: float | None = Field(None, gt=0)
    samples: float | None = Field(None, gt=0)


class Evidence(Section):
    """How the arms are compared, and when enough seeds have run. All but `pilot` is part of the sweep's
    identity. What `auto` comes to is resolved in `sweeps.plan.evidence`."""

    question: Literal["baseline", "best", "effects", "spread"] = "baseline"
    test: Literal["t", "permutation"] = "t"
    pairing: Literal["auto", "paired", "unpaired"] = "auto"
    looks: Literal["auto", "none", "anytime"] | list[Annotated[int, Field(strict=True, ge=2)]] = "auto"
    margin: float | None = None  # differences below it do not matter (equivalence), in the metric's own units
    futility: float | None = None  # from a difference of this size on the sweep cares; default: margin
    reserve: float = Field(0.01, ge=0, lt=0.05)  # of the 5%, kept for extensions
    on_diverged: Literal["worst"] = "worst"
    baseline_seeds: Literal["auto"] | MoreSeeds = "auto"  # for the baseline, where seeds are unpaired
    pilot: Path | None = None  # results of a sweep from which the SD over seeds is taken

    @field_validator("margin", "futility")
    @classmethod
    def _is_a_distance(cls, value: float | None) -> float | None:
        if value is not None and value <= 0:
            raise ValueError(
                f"is {value:g}, but it is a distance from no difference at all: give it above 0, in the "
                f"metric's own units (0.01 of a share from 0 to 1 is one point), or leave it out"
            )
        return value

    @field_validator("looks")
    @classmethod
    def _looks_rise(cls, looks: Any) -> Any:
        if isinstance(looks, list) and (not looks or looks != sorted(set(looks))):
            raise ValueError(
                f"{looks} must rise, such as [3, 4, 5]: give the numbers of seeds in order, or auto"
            )
        return looks


SizeOf = Literal["params", "flops", "train_flops"]
SIZES: dict[SizeOf, tuple[str, str]] = {  # what `describe` calls it, and its name in messages
    "params": ("num_params", "parameters"),
    "flops": ("flops_per_sample", "FLOPs a sample"),
    "train_flops": ("flops_per_sample", "training FLOPs"),
}


def _size_or_baseline(given: Any) -> Any:
    if given is None or given == "baseline":
        return given
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        raise ValueError(f"must be a number above 0, or baseline, the first arm's (given {given!r})")
    return float(given)


Size = Annotated[Any, AfterValidator(_size_or_baseline)]


class Match(Section):
    """The size that every arm is to have, and the key that brings it there."""

    params: Size = None
    flops: Size = None  # of a sample
    train_flops: Size = None  # of a whole trial
    by: str
    tolerance: float = Field(0.02, ge=0, lt=1)  # a share of the size
    on_unmatched: Literal["error", "mark"] = "error"

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        given = [name for name in SIZES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"must have one of {', '.join(SIZES)} (given {' and '.join(given) or 'none'}): such as "
                f"params: 6.83e6"
            )
        return self

    @property
    def of(self) -> SizeOf:
        return next(name for name in SIZES if getattr(self, name) is not None)

    @property
    def size(self) -> Any:
        return getattr(self, self.of)

    @property
    def said(self) -> str:
        """The size in words."""
        return f"the baseline's {SIZES[self.of][1]}" if self.size == "baseline" else self.amount(self.size)

    def amount(self, size: float) -> str:
        """ "6,830,000 parameters"."""
        what = SIZES[self.of][1]
        return f"{size:,.0f} {what}" if self.of == "params" else f"{size:.4g} {what}"


class SweepSpec(Section):
    """A search space as resolved: the base is inlined and `--set` is in it."""

    name: str
    trainer: str = "trm.trainer:train"
    base: dict[str, Any] = Field({})
    objective: Objective = Objective(metric="val/exact_accuracy", mode="max")
    ablate: dict[str, Factor] = Field({})
    design: Literal["full", "one_at_a_time"] = "full"
    match: Match | None = None
    tune: dict[str, Domain] = Field({})
    search: SearchSpec = SearchSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    seeds: Seeds = Field([1, 2, 3, 4, 5])
    seed_keys: SeedKeys = Field([])
    evidence: Evidence = Evidence()
    resources: TrialResources = TrialResources()
    max_concurrent: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    max_failures: int = Field(1, ge=0)
    max_silence_s: float | None = Field(None, gt=0, le=WEEK_S)  # without a report; then the trial has failed
    max_checkpoint_gb: float | None = Field(None, gt=0)
    budget: Budget = Budget()

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a folder: use letters, digits, '.', '_' and '-', beginning with a "
                f"letter or a digit"
            )
        return name

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if not (self.ablate or self.tune):
            raise ValueError("there is nothing to compare and nothing to tune: add ablate, or tune")
        if not self.tune and "search" in self.model_fields_set:
            raise ValueError("search: there is nothing to search without tune: remove search, or add tune")
        for key in sorted(self.scheduler.model_fields_set & self.scheduler.unused_keys):
            raise ValueError(
                f"scheduler.{key}: is for kind {' and '.join(ONLY_FOR[key])}, but kind is "
                f"{self.scheduler.kind}: remove {key}, or set kind"
            )
        both = set(self.tune) & set(self.ablate)
        if both:
            raise ValueError(f"tune.{min(both)}: is compared under ablate too: it can be one of the two")
        for name, domain in self.tune.items() if self.search.choose == "smoothed" else ():
            if domain.choice is not None or domain.when:
                has = "is a choice" if domain.choice is not None else "has a `when`"
                raise ValueError(
                    f"tune.{name}: {has}, but search.choose smoothed needs a range that every draw has a "
                    f"value from: give such a range, or set search.choose to best"
                )
        shared = sorted(set(self.seeds) & set(self.search.seeds)) if self.tune else []
        if shared:
            raise ValueError(
                f"seeds: {shared} are also under search.seeds: a draw that was chosen on a seed must be "
                f"shown on others (the winner's curse): give other numbers"
            )
        return self
