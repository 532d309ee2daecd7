"""From a search space to trials: arms, draws, seeds, each trial's whole config, and what makes a sweep the same."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sweeps.arms import Combination, combinations
from sweeps.dotted import flatten, get, make_paths_absolute
from sweeps.draws import known_draws
from sweeps.errors import SpecError
from sweeps.spec import Domain, Sources, SweepSpec, load_spec
from sweeps.trainers import Trainer, import_trainer
from trm.messages import explain
from trm.overrides import OverrideError, override


@dataclass(frozen=True)
class Arm:
    """A combination of levels. `config` is whole but for what is tuned; `tune` holds the domains that apply."""

    name: str
    levels: dict[str, Any]
    config: dict[str, Any]
    tune: dict[str, Domain]
    num_params: int | None
    flops_per_sample: int | None


@dataclass(frozen=True)
class Draw:
    """One set of tuned values; `index` is its place among the arm's draws."""

    index: int
    values: dict[str, Any]


@dataclass(frozen=True)
class TrialPlan:
    """An arm, a draw and a seed."""

    trial_id: str
    arm: str
    draw: int
    values: dict[str, Any]
    seed: int
    phase: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """All that follows from a search space. `horizon` is a whole trial's samples, where they are known."""

    spec: SweepSpec
    source: str
    trainer: Trainer
    base: dict[str, Any]
    arms: tuple[Arm, ...]
    baseline: str
    horizon: float | None

    def draws(self, arm: Arm) -> tuple[Draw, ...]:
        """The arm's draws where they are known beforehand; none for TPE, one without values where nothing is
        tuned."""
        if not self.spec.tune:
            return (Draw(0, {}),)
        if self.spec.search.algorithm == "tpe":
            return ()
        found: list[dict[str, Any]] = []
        for values in self._all_draws:
            here = {name: value for name, value in values.items() if name in arm.tune}
            if self.spec.search.algorithm != "grid" or here not in found:
                found.append(here)
        return tuple(Draw(index, values) for index, values in enumerate(found))

    @cached_property
    def _all_draws(self) -> list[dict[str, Any]]:
        return known_draws(self.spec.search.algorithm, self.spec.tune, self.spec.search.draws_per_arm)

    def search_trials(self) -> list[TrialPlan]:
        """Trials under the scheduler that are known by now, a draw of every arm after the other."""
        if not self.spec.tune and self.spec.scheduler.kind == "fifo":
            return []
        seeds = self.spec.search.seeds if self.spec.tune else self.spec.seeds
        by_arm = [(arm, self.draws(arm)) for arm in self.arms]
        rounds = max(len(draws) for _, draws in by_arm)
        return [
            self.trial(arm, draws[index], seed, "search")
            for index in range(rounds)
            for arm, draws in by_arm
            if index < len(draws)
            for seed in seeds
        ]

    def evidence_trials(self, arm: Arm, draw: Draw) -> list[TrialPlan]:
        return [self.trial(arm, draw, seed, "evidence") for seed in self.spec.seeds]

    def trial(self, arm: Arm, draw: Draw, seed: int, phase: str) -> TrialPlan:
        config = self._configure(arm.config, list(draw.values.items()), f"{arm.name}, draw {draw.index}")
        trial_id = f"{arm.name}-d{draw.index}-s{seed}"
        return TrialPlan(trial_id, arm.name, draw.index, draw.values, seed, phase, _dump(config))

    def _configure(self, base: dict[str, Any], values: Sequence[tuple[str, Any]], what: str) -> BaseModel:
        return configure(self.trainer, base, values, f"{self.source}: {what}")

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a sweep the same one: not its resources, its concurrency or where it is tracked."""
        dumped = _space(self)
        return {key: value for key, value in dumped.items() if key not in _NOT_IDENTITY}

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def differences(self, there: dict[str, Any]) -> list[str]:
        """Key by key, where `there`, the identity of another sweep, differs from this one's."""
        old, new = flatten(there), flatten(self.identity)
        return [
            f"{key}: {old.get(key, 'not set')!r} there, {new.get(key, 'not set')!r} here"
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key)
        ]

    def resolved(self) -> dict[str, Any]:
        """The content of sweep.yaml: a search space that can be launched again, and what it came to."""
        arms = {
            arm.name: {
                "levels": arm.levels,
                "num_params": arm.num_params,
                "flops_per_sample": arm.flops_per_sample,
            }
            for arm in self.arms
        }
        factors = list(self.spec.ablate)
        found = {"hash": self.hash, "baseline": self.baseline, "factors": factors, "arms": arms}
        return {**_space(self), "resolved": {**found, "identity": self.identity}}


_NOT_IDENTITY = {"name", "resources", "max_concurrent", "max_failures"}


def _space(plan: Plan) -> dict[str, Any]:
    spec = plan.spec
    dumped = spec.model_dump(mode="json", exclude={"ablate", "tune", "base"})
    dumped["base"] = plan.base
    dumped["ablate"] = {k: f.model_dump(mode="json", exclude_defaults=True) for k, f in spec.ablate.items()}
    if spec.tune:
        dumped["tune"] = {k: d.model_dump(mode="json", exclude_defaults=True) for k, d in spec.tune.items()}
    else:
        del dumped["search"]
    order = ["name", "trainer", "base", "objective", "ablate", "design", "tune", "search", "scheduler", "seeds"]
    return {key: dumped[key] for key in [*order, *(set(dumped) - set(order))] if key in dumped}


def load_plan(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> Plan:
    """Read and plan a search space. Raises SpecError."""
    spec, sources = load_spec(path, overrides, name)
    try:
        return build_plan(spec, sources)
    except SpecError as error:
        message = str(error)
        raise SpecError(message if str(path) in message else f"{path}: {message}") from error


def build_plan(spec: SweepSpec, sources: Sources) -> Plan:
    trainer = import_trainer(spec.trainer)
    base = _base(spec, sources, trainer)
    known = trainer.describe(trainer.config_model.model_validate(base))
    spec, base, horizon = _set_horizon(spec, base, known, trainer, sources)
    _check_metrics(spec, known)
    found = combinations(spec, base, lambda config, values, what: _dump(configure(trainer, config, values, what)))
    arms = tuple(_arm(spec, trainer, each, sources) for each in found)
    plan = Plan(spec, str(sources.path), trainer, base, arms, arms[0].name, horizon)
    _check_draws(plan)
    return plan


def configure(
    trainer: Trainer, base: dict[str, Any], values: Sequence[tuple[str, Any]], source: str
) -> BaseModel:
    """The trainer's config: `base` with `values` set. Raises SpecError where it does not fit."""
    try:
        return trainer.config_model.model_validate(override(base, values, trainer.config_model))
    except OverrideError as error:
        raise SpecError(f"{source}: {error}") from error
    except ValidationError as error:
        raise SpecError(explain(error, trainer.config_model, source)) from error


def _dump(config: BaseModel) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _base(spec: SweepSpec, sources: Sources, trainer: Trainer) -> dict[str, Any]:
    """The base as a whole config: relative paths are taken from the file that names them, or, under `--set`,
    from where the command was given."""
    given = configure(trainer, spec.base, [], f"{sources.path}: base")
    there = make_paths_absolute(copy.deepcopy(spec.base), given, sources.base_dir)
    if not sources.changes:
        return _dump(configure(trainer, there, [], f"{sources.path}: base"))
    changed = configure(trainer, there, sources.changes, "--set")
    return make_paths_absolute(_dump(changed), changed, Path.cwd())


def _set_horizon(
    spec: SweepSpec, base: dict[str, Any], known: dict[str, Any], trainer: Trainer, sources: Sources
) -> tuple[SweepSpec, dict[str, Any], float | None]:
    """Write `max_t` into the config key that the trainer names for it, or read it from there."""
    key, max_t = known.get("horizon_key"), spec.scheduler.max_t
    if key is not None and max_t is not None:
        value = int(max_t) if max_t == int(max_t) else max_t
        base = _dump(configure(trainer, base, [(key, value)], f"{sources.path}: scheduler.max_t"))
    elif key is not None:
        max_t = float(get(base, key))
    if spec.scheduler.kind != "fifo" and max_t is None:
        raise SpecError("scheduler.max_t: is required: the trainer does not say how long a trial is")
    if max_t is not None and spec.scheduler.grace_period >= max_t:
        raise SpecError(
            f"scheduler.grace_period: is {spec.scheduler.grace_period:g}, but a trial ends at {max_t:g}; lower it"
        )
    metric = spec.scheduler.metric or spec.objective.metric
    same = metric == spec.objective.metric and "mode" not in spec.scheduler.model_fields_set
    changes = {
        "max_t": max_t,
        "metric": metric,
        "mode": spec.objective.mode if same else spec.scheduler.mode,
        "scope": spec.scheduler.scope or ("arm" if spec.tune else "sweep"),
    }
    scheduler = spec.scheduler.model_copy(update=changes)
    return spec.model_copy(update={"scheduler": scheduler}), base, max_t


def _check_metrics(spec: SweepSpec, known: dict[str, Any]) -> None:
    import difflib

    if "metrics" not in known:
        return
    names = {*known["metrics"], "step", "samples"}
    asked = [("objective.metric", spec.objective.metric)]
    if spec.scheduler.kind != "fifo":
        asked += [("scheduler.metric", spec.scheduler.metric), ("scheduler.time_attr", spec.scheduler.time_attr)]
    for key, name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=1)
            hint = f"did you mean {near[0]}?" if near else f"it reports {', '.join(sorted(names))}"
            raise SpecError(f"{key}: {name!r} is not reported by {spec.trainer}: {hint}")


def _arm(spec: SweepSpec, trainer: Trainer, found: Combination, sources: Sources) -> Arm:
    config = trainer.config_model.model_validate(found.config)
    absolute = make_paths_absolute(found.config, config, sources.space_dir)
    known = trainer.describe(trainer.config_model.model_validate(absolute))
    warmup, scheduler = known.get("warmup_samples"), spec.scheduler
    if scheduler.kind != "fifo" and scheduler.time_attr == "samples" and warmup:
        if scheduler.grace_period <= warmup:
            raise SpecError(
                f"scheduler.grace_period: is {scheduler.grace_period:g} samples, but the warm-up of "
                f"{found.name} lasts {warmup:g}: a rung there judges the warm-up; raise it, or shorten the warm-up"
            )
    return Arm(
        name=found.name,
        levels=found.levels,
        config=absolute,
        tune={k: d for k, d in spec.tune.items() if found.meets(d.when, f"tune.{k}")},
        num_params=known.get("num_params"),
        flops_per_sample=known.get("flops_per_sample"),
    )


def _check_draws(plan: Plan) -> None:
    """Validate every trial that is known, and the ends of every domain; refuse two that are the same trial."""
    _check_grid(plan.spec)
    for name in plan.spec.tune:
        if not any(name in arm.tune for arm in plan.arms):
            raise SpecError(f"tune.{name}: its `when` is met by no arm; remove it, or mend `when`")
    seen: dict[str, tuple[Arm, Draw]] = {}
    for arm in plan.arms:
        for name, domain in arm.tune.items():
            for end in domain.ends:
                plan._configure(arm.config, [(name, end)], f"tune.{name}, in arm {arm.name}")
        for draw in plan.draws(arm):
            config = plan._configure(arm.config, list(draw.values.items()), f"{arm.name}, draw {draw.index}")
            effective = plan.trainer.describe(config).get("effective") or _dump(config)
            twin = seen.setdefault(json.dumps(effective, sort_keys=True, default=str), (arm, draw))
            if twin != (arm, draw):
                raise SpecError(_twins(plan, twin, (arm, draw)))


def _check_grid(spec: SweepSpec) -> None:
    if spec.tune and spec.search.algorithm == "grid":
        for name, domain in spec.tune.items():
            if domain.kind not in ("choice", "int"):
                raise SpecError(f"tune.{name}: {domain.kind} has no grid; use choice or int, or another algorithm")


def _twins(plan: Plan, one: tuple[Arm, Draw], other: tuple[Arm, Draw]) -> str:
    if one[0] is other[0]:
        return (
            f"tune: draws {one[1].index} and {other[1].index} of {one[0].name} come to the same trial "
            f"({other[1].values}); use search.algorithm: grid, or fewer draws"
        )
    factors = [k for k in {**one[0].levels, **other[0].levels} if one[0].levels.get(k) != other[0].levels.get(k)]
    changed = ", ".join(f"{k}: {one[0].levels.get(k)!r} and {other[0].levels.get(k)!r}" for k in factors)
    return (
        f"ablate.{factors[0]}: changes nothing between the arms {one[0].name} and {other[0].name} ({changed}): both "
        f"come to the same network and recipe; remove a level, restrict the factor by `when`, or choose values "
        f"that differ in effect"
    )


def check_data(plan: Plan) -> None:
    """Let the trainer look at the data that the arms name, once for each. Raises SpecError."""
    seen: list[Any] = []
    for arm in plan.arms:
        data = arm.config.get("data")
        if data in seen:
            continue
        seen.append(data)
        try:
            plan.trainer.check(plan.trainer.config_model.model_validate(arm.config))
        except ValueError as error:
            raise SpecError(f"{plan.source}: {error}") from error


