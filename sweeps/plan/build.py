"""Builds the plan of a sweep: reads the search space, fills in defaults, and builds and checks the arms.

`sweeps.launch` calls `load_plan`. It calls `space.load` for the YAML, `plan.trainer` to import the trainer,
`plan.arms` for the combinations of levels, `plan.match` for arms of equal size or length, `plan.units` for
the units of metrics, `plan.checks` for everything that can be refused without looking at data, and
`plan.identity` for the sweep's identity. The trials follow from the plan's arms, draws and seeds
(`plan.model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.plan.arms import ArmBuilder, ArmDraft
from sweeps.plan.checks import check_horizon, check_metrics, check_names, check_plan
from sweeps.plan.draws import in_dependency_order
from sweeps.plan.evidence import baseline_seeds, resolve_rule
from sweeps.plan.identity import identity
from sweeps.plan.match import Matched, match_arms, refuse_rivals
from sweeps.plan.model import Arm, Plan
from sweeps.plan.train_flops import check_scheduler
from sweeps.plan.trainer import Trainer, import_trainer
from sweeps.plan.units import described_units, resolved_units
from sweeps.space.dotted import absolute_at, overlap
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
    """Plan a search space, and refuse everything that can be refused without data. Raises SpecError."""
    trainer = import_trainer(spec.trainer)
    spec = _with_absolute_paths(spec, sources, trainer)
    spec = _with_overrides(spec, sources, trainer)
    description = trainer.describe(trainer.configure(spec.base, [], f"{sources.path}: base"))
    spec = _with_max_t(spec, sources, trainer, description)
    spec = spec.model_copy(update={"scheduler": _with_scheduler_defaults(spec)})
    check_metrics(spec, description)
    check_names(spec, description)
    check_scheduler(spec)
    arms = _arms(spec, trainer, sources)
    horizon = trainer.horizon(trainer.configure(spec.base, [], "base"), description)
    spec = spec.model_copy(update={"scheduler": check_horizon(spec, horizon, arms[0].match)})
    described = described_units(spec.trainer, description)
    units = resolved_units(spec, [described, *(arm.units for arm in arms)])
    objective = spec.objective.model_copy(update={"unit": units[spec.objective.metric]})
    spec = spec.model_copy(update={"objective": objective})
    rule = resolve_rule(spec, len(arms))
    more = tuple(baseline_seeds(spec, rule))
    metrics = tuple(description.get("metrics") or ())
    plan = Plan(spec, sources, trainer, arms, units, rule, more, metrics=metrics)
    check_plan(plan)
    return replace(plan, identity=identity(plan))


# The space with absolute paths, --set, and the scheduler's defaults


def _with_absolute_paths(spec: SweepSpec, sources: Sources, trainer: Trainer) -> SweepSpec:
    """The spec with every path absolute. A relative path is relative to the file that contains it."""
    model, folder = trainer.config_model, sources.space_dir

    def with_paths(name: str, factor: Factor) -> Factor:
        values = factor.values and [absolute_at(name, value, model, folder) for value in factor.values]
        levels = factor.levels and {
            level: {key: absolute_at(key, value, model, folder) for key, value in settings.items()}
            for level, settings in factor.levels.items()
        }
        return factor.model_copy(update={"values": values, "levels": levels})

    def with_choices(name: str, domain: Domain) -> Domain:
        choice = domain.choice and [absolute_at(name, value, model, folder) for value in domain.choice]
        return domain.model_copy(update={"choice": choice})

    changes: dict[str, Any] = {
        "base": absolute_paths(spec.base, model, sources.base_dir),
        "ablate": {name: with_paths(name, factor) for name, factor in spec.ablate.items()},
        "tune": {name: with_choices(name, domain) for name, domain in spec.tune.items()},
    }
    if spec.evidence.pilot is not None:
        pilot = (folder / spec.evidence.pilot.expanduser()).absolute()
        changes["evidence"] = spec.evidence.model_copy(update={"pilot": pilot})
    return spec.model_copy(update=changes)


def _with_overrides(spec: SweepSpec, sources: Sources, trainer: Trainer) -> SweepSpec:
    """The spec with the changes of `--set` in its base.

    The base is not replaced by the validated config, which has defaults filled in: a default of the base's
    kind of mixer must not count as set for another kind.
    """
    if not sources.changes:
        return spec
    model, folder = trainer.config_model, Path.cwd()
    for key, _ in sources.changes:
        section = key.partition(".")[0]
        known = section in model.model_fields or model.model_config.get("extra") == "allow"
        if section in SweepSpec.model_fields and not known:
            raise SpecError(
                f"--set {key}: {section} is a key of the search space, but --set changes the base, a trial's "
                f"config: edit {sources.path}, or set one of {', '.join(model.model_fields)}"
            )
    changes = [(key, absolute_at(key, value, model, folder)) for key, value in sources.changes]
    # First the base alone, so that an error of its own does not name --set.
    trainer.configure(spec.base, [], f"{sources.path}: base")
    trainer.configure(spec.base, changes, f"{sources.path}: --set")
    return spec.model_copy(update={"base": trainer.override(spec.base, changes)})


def _with_max_t(
    spec: SweepSpec, sources: Sources, trainer: Trainer, description: dict[str, Any]
) -> SweepSpec:
    """The spec with `scheduler.max_t`, if it is in samples, written into the base at the trainer's
    horizon_key."""
    key, max_t = description.get("horizon_key"), spec.scheduler.max_t
    if key is None or max_t is None or spec.scheduler.time_attr != "samples":
        return spec
    value = int(max_t) if max_t == int(max_t) else max_t
    trainer.configure(spec.base, [(key, value)], f"{sources.path}: scheduler.max_t")
    return spec.model_copy(update={"base": trainer.override(spec.base, [(key, value)])})


def _with_scheduler_defaults(spec: SweepSpec) -> SchedulerSpec:
    """The scheduler with the objective's metric and mode, and the default scope, where it does not set
    them."""
    scheduler, objective = spec.scheduler, spec.objective
    metric = scheduler.metric or objective.metric
    is_lower_better = [name.endswith(("loss", "error")) for name in (metric, objective.metric)]
    if scheduler.stops and scheduler.mode is None and is_lower_better[0] != is_lower_better[1]:
        raise SpecError(
            f"scheduler.mode: is left out, and would be the objective's ({objective.mode}), but one metric "
            f"is {metric} and the other {objective.metric}: give min or max"
        )
    scope = scheduler.scope or ("arm" if spec.tune else "sweep")
    mode = scheduler.mode or objective.mode
    return scheduler.model_copy(update={"metric": metric, "mode": mode, "scope": scope})


# The arms


def _arms(spec: SweepSpec, trainer: Trainer, sources: Sources) -> tuple[Arm, ...]:
    builder = ArmBuilder(spec, trainer, str(sources.path))
    for section, items in (("ablate", spec.ablate), ("tune", spec.tune)):
        for key, item in items.items():
            builder.check_when(item.when, f"{section}.{key}")
    for index, entry in enumerate(spec.resources.per_arm):
        builder.check_when(entry.when, f"resources.per_arm.{index}")
    in_dependency_order(spec.tune)  # only to refuse a cycle
    refuse_rivals(spec)
    drafts = builder.combinations()
    matched = match_arms(spec, builder, drafts)
    return tuple(_arm(builder, draft, matched.get(draft.name)) for draft in drafts)


def _arm(builder: ArmBuilder, draft: ArmDraft, matched: Matched | None) -> Arm:
    config, trainer = builder.config(draft), builder.trainer
    model = trainer.config_model.model_validate(config)
    description = trainer.describe(model)
    domains = builder.tuned(draft)
    for name in domains:
        for key, (factor, _) in draft.settings.items():
            if overlap(name, key):
                raise SpecError(
                    f"tune.{name}: the factor {factor} sets {key} too: a key can be only one of the two"
                )
    cpu, gpu = builder.resources(draft)
    is_tuned = any(overlap(name, description.get("horizon_key") or "") for name in domains)
    return Arm(
        name=draft.name,
        levels=draft.levels,
        sets=frozenset(draft.settings),
        config=config,
        horizon=None if is_tuned else trainer.horizon(model, description),
        tune=domains,
        num_params=description.get("num_params"),
        flops_per_sample=description.get("flops_per_sample"),
        cpu=cpu,
        gpu=gpu,
        effective_depth=description.get("effective_depth"),
        units=described_units(trainer.name, description),
        match=matched,
        notes=tuple(description.get("notes") or ()),
        gpu_notes=tuple(description.get("gpu_notes") or ()),
        samples_per_report=description.get("samples_per_report"),
    )
