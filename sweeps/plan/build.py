"""From a search space to trials: arms, draws, seeds, and each trial's whole config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.plan.arms import ArmBuilder, ArmDraft
from sweeps.plan.checks import check_horizon, check_metrics, check_names, check_plan
from sweeps.plan.draws import in_dependency_order
from sweeps.plan.identity import identity
from sweeps.plan.match import Matched, match_arms
from sweeps.plan.model import Arm, Plan
from sweeps.plan.trainer import Trainer, import_trainer
from sweeps.space.dotted import absolute_at, get, overlap
from sweeps.space.errors import SpecError
from sweeps.space.load import Sources, load_spec
from sweeps.space.schema import SchedulerSpec, SweepSpec
from sweeps.space.values import Domain, Factor
from trm.settings.overrides import absolute_paths


def load_plan(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> Plan:
    """Read and plan a search space: a file, or the name of a shipped one. Raises SpecError naming file, key,
    value and remedy."""
    spec, sources = load_spec(path, overrides, name)
    try:
        return build_plan(spec, sources)
    except SpecError as error:
        message, source = str(error), str(sources.path)
        raise SpecError(message if source in message else f"{source}: {message}") from error


def build_plan(spec: SweepSpec, sources: Sources) -> Plan:
    """Everything that can be refused without looking at data is refused here. Raises SpecError."""
    trainer = import_trainer(spec.trainer)
    spec = _with_base(_with_absolute_paths(spec, sources, trainer), sources, trainer)
    known = trainer.describe(trainer.configure(spec.base, [], f"{sources.path}: base"))
    spec, horizon = _with_scheduler(spec, sources, trainer, known)
    check_metrics(spec, known)
    check_names(spec, known)
    builder = ArmBuilder(spec, trainer, str(sources.path))
    for section, items in (("ablate", spec.ablate), ("tune", spec.tune)):
        for key, item in items.items():
            builder.check_when(item.when, f"{section}.{key}")
    for index, each in enumerate(spec.resources.per_arm):
        builder.check_when(each.when, f"resources.per_arm.{index}")
    in_dependency_order(spec.tune)
    found = builder.combinations()
    matched = match_arms(spec, builder, found)
    arms = tuple(_arm(spec, builder, each, matched.get(each.name)) for each in found)
    plan = Plan(spec, sources, trainer, arms, horizon)
    check_plan(plan)
    return replace(plan, identity=identity(plan))


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
    if given.stops and given.mode is None and falls[0] != falls[1]:
        raise SpecError(
            f"scheduler.mode: is left out, and would be the objective's ({objective.mode}), but one metric "
            f"is {metric} and the other {objective.metric}: give min or max"
        )
    scope = given.scope or ("arm" if spec.tune else "sweep")
    return given.model_copy(update={"metric": metric, "mode": given.mode or objective.mode, "scope": scope})


def _arm(spec: SweepSpec, builder: ArmBuilder, found: ArmDraft, matched: Matched | None) -> Arm:
    config = builder.config(found)
    known = builder.trainer.describe(builder.trainer.config_model.model_validate(config))
    tune = builder.tuned(found)
    for name in tune:
        for key, (factor, _) in found.settings.items():
            if overlap(name, key):
                raise SpecError(f"tune.{name}: the factor {factor} sets {key} too: it can be one of the two")
    size = known.get("num_params"), known.get("flops_per_sample")
    cpu, gpu = builder.resources(found)
    depth = known.get("effective_depth")
    sets = frozenset(found.settings)
    return Arm(found.name, found.levels, sets, config, tune, *size, cpu, gpu, depth, matched)
