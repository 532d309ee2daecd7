"""From a search space to trials: arms, draws, seeds, and each trial's whole config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeps import identity
from sweeps.arms import Combination, Combiner
from sweeps.checks import check_data, check_horizon, check_metrics, check_names, check_plan
from sweeps.dotted import absolute_at, get, overlap
from sweeps.draws import drawn_for, in_order_of_need, known_draws
from sweeps.errors import SpecError
from sweeps.matching import Matched, match_arms
from sweeps.space import Domain, Factor
from sweeps.spec import SchedulerSpec, Sources, SweepSpec, load_spec
from sweeps.trainers import Trainer, import_trainer
from trm.overrides import absolute_paths

__all__ = ["Arm", "Draw", "Plan", "TrialPlan", "build_plan", "check_data", "load_plan"]


@dataclass(frozen=True)
class Arm:
    """A combination of levels. `config` is whole but for what is tuned, `tune` what applies of that; `sets`
    are the keys that its levels set. A domain's `when` names other tuned values alone: what it says of the
    arm has been looked at. `gpu` may be "auto"."""

    name: str
    levels: dict[str, Any]
    sets: frozenset[str]
    config: dict[str, Any]
    tune: dict[str, Domain]
    num_params: int | None
    flops_per_sample: int | None
    cpu: float
    gpu: float | str
    effective_depth: int | None = None
    match: Matched | None = None


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
    """All that follows from a search space.

    `spec` is resolved: its paths are absolute, `--set` is in the base, and the scheduler's defaults are
    filled in. `horizon` is a whole trial's samples, where they are known.
    """

    spec: SweepSpec
    sources: Sources
    trainer: Trainer
    arms: tuple[Arm, ...]
    horizon: float | None

    @property
    def source(self) -> str:
        return str(self.sources.path)

    @property
    def baseline(self) -> str:
        """The arm of the first levels; for one_at_a_time, of the base."""
        return self.arms[0].name

    def draws(self, arm: Arm) -> tuple[Draw, ...]:
        """The arm's draws where they are known beforehand: none for TPE, one without values where there is
        nothing to tune."""
        return self._draws_by_arm[arm.name]

    @cached_property
    def _draws_by_arm(self) -> dict[str, tuple[Draw, ...]]:
        return {arm.name: self._draws_of(arm) for arm in self.arms}

    def _draws_of(self, arm: Arm) -> tuple[Draw, ...]:
        if not arm.tune:
            return (Draw(0, {}),)
        # Where something applies only to some draws, two of the others may be the same.
        may_be_equal = self.spec.search.algorithm == "grid" or any(d.when for d in arm.tune.values())
        found: dict[str, Draw] = {}
        for index, values in enumerate(self.known_draws):
            here = drawn_for(arm.tune, values)
            found.setdefault(repr(here) if may_be_equal else str(index), Draw(index, here))
        return tuple(found.values())

    @cached_property
    def known_draws(self) -> list[dict[str, Any]]:
        """Over all of `tune`; each arm takes from them what applies to it."""
        search = self.spec.search
        if not self.spec.tune or search.algorithm == "tpe":
            return []
        return known_draws(search.algorithm, self.spec.tune, search.draws_per_arm)

    def number_of_draws(self, arm: Arm) -> int:
        """Known beforehand even where the draws are not."""
        is_asked = arm.tune and self.spec.search.algorithm == "tpe"
        return self.spec.search.draws_per_arm if is_asked else len(self.draws(arm))

    @property
    def uses_gpus(self) -> bool:
        return any(arm.gpu for arm in self.arms)

    def first_trials(self) -> list[TrialPlan]:
        """The trials that are known before the launch: of the search those whose draws are, a draw of every
        arm after the other; with nothing to tune and nothing to stop, the evidence, which is all there is."""
        is_evidence = not self.spec.tune and self.spec.scheduler.kind == "fifo"
        phase = "evidence" if is_evidence else "search"
        by_arm = [(arm, self.draws(arm)) for arm in self.arms]
        rounds = max(len(draws) for _, draws in by_arm)
        return [
            self.trial(arm, draws[index], seed, phase)
            for index in range(rounds)
            for arm, draws in by_arm
            if index < len(draws)
            for seed in self.search_seeds
        ]

    @property
    def search_seeds(self) -> list[int]:
        """The seeds of every draw of the search; with nothing to tune there is one list for all."""
        return self.spec.search.seeds if self.spec.tune else self.spec.seeds

    def evidence_trials(self, arm: Arm, draw: Draw) -> list[TrialPlan]:
        return [self.trial(arm, draw, seed, "evidence") for seed in self.spec.seeds]

    def trial(self, arm: Arm, draw: Draw, seed: int, phase: str) -> TrialPlan:
        """Raises SpecError where the drawn values do not fit the trainer's config."""
        what = f"{self.source}: {arm.name}, draw {draw.index}"
        config = self.trainer.configure(arm.config, draw.values.items(), what).model_dump(mode="json")
        trial_id = f"{arm.name}-d{draw.index}-s{seed}"
        return TrialPlan(trial_id, arm.name, draw.index, draw.values, seed, phase, config)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes a sweep the same one: not its resources, its concurrency or where it is tracked."""
        return identity.identity(self)

    @property
    def hash(self) -> str:
        return identity.digest(self.identity)

    def differences(self, there: dict[str, Any]) -> list[str]:
        """Key by key, where `there`, the identity of another sweep, differs from this one's."""
        return identity.differences(there, self.identity)

    def resolved(self) -> dict[str, Any]:
        """The content of sweep.yaml: a search space that can be launched again, and what it came to."""
        return identity.resolved(self)


def load_plan(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> Plan:
    """Read and plan a search space. Raises SpecError naming file, key, value and remedy."""
    spec, sources = load_spec(path, overrides, name)
    try:
        return build_plan(spec, sources)
    except SpecError as error:
        message = str(error)
        raise SpecError(message if str(path) in message else f"{path}: {message}") from error


def build_plan(spec: SweepSpec, sources: Sources) -> Plan:
    """Everything that can be refused without looking at data is refused here. Raises SpecError."""
    trainer = import_trainer(spec.trainer)
    spec = _with_base(_with_absolute_paths(spec, sources, trainer), sources, trainer)
    known = trainer.describe(trainer.configure(spec.base, [], f"{sources.path}: base"))
    spec, horizon = _with_scheduler(spec, sources, trainer, known)
    check_metrics(spec, known)
    check_names(spec, known)
    combiner = Combiner(spec, trainer, str(sources.path))
    for section, items in (("ablate", spec.ablate), ("tune", spec.tune)):
        for key, item in items.items():
            combiner.check_when(item.when, f"{section}.{key}")
    for index, each in enumerate(spec.resources.per_arm):
        combiner.check_when(each.when, f"resources.per_arm.{index}")
    in_order_of_need(spec.tune)
    found = combiner.combinations()
    matched = match_arms(spec, combiner, found)
    arms = tuple(_arm(spec, combiner, each, matched.get(each.name)) for each in found)
    plan = Plan(spec, sources, trainer, arms, horizon)
    check_plan(plan)
    return plan


def _with_absolute_paths(spec: SweepSpec, sources: Sources, trainer: Trainer) -> SweepSpec:
    """Relative paths are taken from the file that names them."""
    model = trainer.config_model

    def factor(name: str, given: Factor) -> Factor:
        here = sources.space_dir
        values = given.values and [absolute_at(name, value, model, here) for value in given.values]
        levels = given.levels and {
            level: {key: absolute_at(key, value, model, here) for key, value in sets.items()}
            for level, sets in given.levels.items()
        }
        return given.model_copy(update={"values": values, "levels": levels})

    def domain(name: str, given: Domain) -> Domain:
        choice = given.choice and [absolute_at(name, each, model, sources.space_dir) for each in given.choice]
        return given.model_copy(update={"choice": choice})

    changes: dict[str, Any] = {
        "base": absolute_paths(spec.base, model, sources.base_dir),
        "ablate": {name: factor(name, given) for name, given in spec.ablate.items()},
        "tune": {name: domain(name, given) for name, given in spec.tune.items()},
    }
    if spec.evidence.pilot is not None:
        pilot = (sources.space_dir / spec.evidence.pilot.expanduser()).absolute()
        changes["evidence"] = spec.evidence.model_copy(update={"pilot": pilot})
    return spec.model_copy(update=changes)


def _with_base(spec: SweepSpec, sources: Sources, trainer: Trainer) -> SweepSpec:
    """With `--set` in the base. It stays as given, defaults left out: a default of one kind of mixer is not
    something that the base says of another."""
    if not sources.changes:
        return spec
    model, here = trainer.config_model, Path.cwd()
    changes = [(key, absolute_at(key, value, model, here)) for key, value in sources.changes]
    trainer.configure(spec.base, [], f"{sources.path}: base")  # the base's own errors are told as such
    trainer.configure(spec.base, changes, f"{sources.path}: --set")
    return spec.model_copy(update={"base": trainer.override(spec.base, changes)})


def _with_scheduler(
    spec: SweepSpec, sources: Sources, trainer: Trainer, known: dict[str, Any]
) -> tuple[SweepSpec, float | None]:
    """With the scheduler's defaults, and `max_t` in the key that the trainer names; and the horizon."""
    given, key, base = spec.scheduler, known.get("horizon_key"), spec.base
    max_t, in_samples = given.max_t, given.time_attr == "samples"
    if key is not None and max_t is not None and in_samples:
        value = int(max_t) if max_t == int(max_t) else max_t
        trainer.configure(base, [(key, value)], f"{sources.path}: scheduler.max_t")
        base = trainer.override(base, [(key, value)])
    horizon = None
    if key is not None:
        try:
            horizon = float(get(trainer.configure(base, [], "base").model_dump(), key))
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(
                f"trainer: describe() has horizon_key {key}, which is no number: mend it"
            ) from error
    scheduler = check_horizon(_filled_in(spec), horizon)
    return spec.model_copy(update={"scheduler": scheduler, "base": base}), horizon


def _filled_in(spec: SweepSpec) -> SchedulerSpec:
    """The objective's metric and mode, and the scope that fits the phases."""
    given, objective = spec.scheduler, spec.objective
    metric = given.metric or objective.metric
    falls = [name.endswith(("loss", "error")) for name in (metric, objective.metric)]
    if given.kind != "fifo" and given.mode is None and falls[0] != falls[1]:
        raise SpecError(
            f"scheduler.mode: is left out, and would be the objective's ({objective.mode}), but one metric "
            f"is {metric} and the other {objective.metric}: give min or max"
        )
    scope = given.scope or ("arm" if spec.tune else "sweep")
    return given.model_copy(update={"metric": metric, "mode": given.mode or objective.mode, "scope": scope})


def _arm(spec: SweepSpec, combiner: Combiner, found: Combination, matched: Matched | None) -> Arm:
    config = combiner.config(found)
    known = combiner.trainer.describe(combiner.trainer.config_model.model_validate(config))
    tune = combiner.tuned(found)
    for name in tune:
        for key, (factor, _) in found.settings.items():
            if overlap(name, key):
                raise SpecError(f"tune.{name}: the factor {factor} sets {key} too: it can be one of the two")
    size = known.get("num_params"), known.get("flops_per_sample")
    cpu, gpu = combiner.resources(found)
    depth = known.get("effective_depth")
    sets = frozenset(found.settings)
    return Arm(found.name, found.levels, sets, config, tune, *size, cpu, gpu, depth, matched)
