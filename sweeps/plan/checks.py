"""What is refused before a sweep starts, beyond what the schema of the YAML can see."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sweeps.plan.draws import drawn_for, known_draws
from sweeps.plan.match import Matched, target_of
from sweeps.plan.model import Arm, Plan
from sweeps.plan.seed_keys import check_seed_keys
from sweeps.plan.train_flops import training_flops
from sweeps.plan.trainer import Trainer
from sweeps.space.dotted import absolute_at, get
from sweeps.space.errors import SpecError, SpecErrors
from sweeps.space.names import REPORTED, RESERVED, name_problem, same_name
from sweeps.space.schema import SIZES, SchedulerSpec, SweepSpec

MAX_RUNGS = 1000
FEWEST_DRAWS = 12  # of an arm, for search.choose smoothed
TRIED = 32  # random draws that are tried on the trainer's config where the draws come later


def check_metrics(spec: SweepSpec, known: dict[str, Any]) -> None:
    """`known` is what the trainer says of the base; where it names no metrics, any may be meant."""
    scheduler, asked = spec.scheduler, [("objective.metric", spec.objective.metric)]
    if scheduler.stops:
        asked += [("scheduler.metric", str(scheduler.metric)), ("scheduler.time_attr", scheduler.time_attr)]
    for key, name in asked:
        if name.startswith("test/") and (spec.tune or key == "scheduler.metric"):
            raise SpecError(f"{key}: {name!r} is of the test split, which may choose nothing: use val/...")
        names = [*(known.get("metrics") or [name]), "step", "samples"]
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it reports {', '.join(sorted(names))}"
            raise SpecError(f"{key}: {name!r} is not reported by {spec.trainer}: {hint}")


def check_names(spec: SweepSpec, known: dict[str, Any]) -> None:
    """Factors, tuned values and metrics become columns, params and metrics under their names."""
    asked = [(f"ablate.{name}", name, RESERVED | REPORTED) for name in spec.ablate]
    asked += [(f"tune.{name}", name, RESERVED | REPORTED) for name in spec.tune]
    asked += [("match.by", spec.match.by, RESERVED | REPORTED)] if spec.match is not None else []
    asked += [(f"trainer: {spec.trainer}: the metric", name, RESERVED) for name in known.get("metrics") or []]
    asked += [("objective.metric", spec.objective.metric, RESERVED)]
    for what, name, reserved in asked:
        if why := name_problem(name, reserved):
            raise SpecError(f"{what}: {name!r} {why}")
    metrics = [("objective.metric", spec.objective.metric), ("scheduler.metric", spec.scheduler.metric)]
    metrics += [(f"trainer: {spec.trainer}: the metric", name) for name in known.get("metrics") or []]
    for what, name in metrics:
        if name in {*spec.ablate, *spec.tune}:
            raise SpecError(f"{what}: {name!r} {same_name(name, spec.ablate)}")


def check_horizon(spec: SweepSpec, horizon: float | None, baseline: Matched | None) -> SchedulerSpec:
    """The scheduler with `max_t`, which is a whole trial's samples where it is left out, or its FLOPs where
    `match` makes these equal. `horizon` is the base's; `baseline` the result of `match` for the baseline."""
    scheduler = spec.scheduler
    if not scheduler.stops:
        return scheduler
    max_t = scheduler.max_t
    if spec.match is not None and spec.match.of == "train_flops" and baseline is not None:
        flops = target_of(spec.match, baseline)
        if max_t not in (None, flops):
            raise SpecError(
                f"scheduler.max_t: is {max_t:g} FLOPs, but match.train_flops ends every trial at "
                f"{flops:g}: leave max_t out"
            )
        max_t = flops
    elif max_t is None and scheduler.time_attr == "samples":
        max_t = horizon
    if max_t is None:
        raise SpecError(
            f"scheduler.max_t: is required, as the trainer does not say how many {scheduler.time_attr} a "
            f"trial takes: add it"
        )
    if scheduler.grace_period >= max_t:
        raise SpecError(
            f"scheduler.grace_period: is {scheduler.grace_period:g}, but a trial ends at {max_t:g}: lower it"
        )
    filled_in = scheduler.model_copy(update={"max_t": max_t})
    rungs = filled_in.build().number_of_rungs()
    if rungs > MAX_RUNGS:
        raise SpecError(
            f"scheduler.grace_period: {scheduler.grace_period:g} and max_t {max_t:g} come to {rungs:,.0f} "
            f"rungs, more than {MAX_RUNGS}: raise grace_period, or reduction_factor"
        )
    return filled_in


def check_plan(plan: Plan) -> None:
    """Try every trial that is known on the trainer's config, and refuse two that are the same trial. Raises
    SpecError, with the first error of each arm."""
    _check_changes(plan)
    check_seed_keys(plan)
    for name in plan.spec.tune:
        if not any(name in arm.tune for arm in plan.arms):
            raise SpecError(f"tune.{name}: its `when` is met by no arm: mend `when`, or remove it")
    most = max(plan.number_of_draws(arm) for arm in plan.arms)
    if plan.spec.tune and plan.spec.search.keep > most:
        raise SpecError(f"search.keep: is {plan.spec.search.keep}, but an arm has {most} draws: lower it")
    fewest = min(plan.number_of_draws(arm) for arm in plan.arms)
    if plan.spec.search.choose == "smoothed" and fewest < FEWEST_DRAWS:
        raise SpecError(
            f"search.choose: smoothed needs {FEWEST_DRAWS} draws or more an arm (given {fewest}), as a "
            f"surface over few draws misses a narrow optimum: give more draws, or choose best"
        )
    seen: dict[str, tuple[Arm, dict[str, Any]]] = {}
    errors = SpecErrors()
    for arm in plan.arms:
        with errors.of(f"arm {arm.name}"):
            _check_arm(plan, arm, seen)
    errors.raise_any()


def _check_arm(plan: Plan, arm: Arm, seen: dict[str, tuple[Arm, dict[str, Any]]]) -> None:
    """`seen` has the trials of the arms before, and gets this one's."""
    for values in values_to_try(plan, arm):
        drawn = f" with {_said(values)}" if values else ""
        what = f"{plan.source}: arm {arm.name}{drawn}"
        config = plan.trainer.configure(arm.config, plan.settings(values, plan.spec.seeds[0]), what)
        known = plan.trainer.describe(config)
        _check_course(plan, what, config, known)
        _check_gpu(arm, what, known)
        _check_size(plan, arm, what, config, known)
        effective = known.get("effective") or config.model_dump(mode="json")
        twin = seen.setdefault(json.dumps(effective, sort_keys=True, default=str), (arm, values))
        if twin[0] is not arm:
            raise SpecError(_same_arms(twin[0], arm))
        if twin[1] is not values and plan.spec.search.algorithm != "tpe":
            raise SpecError(
                f"tune: two draws of {arm.name} come to the same trial ({_said(values)}): use "
                f"search.algorithm grid, fewer draws, or more choices"
            )


def values_to_try(plan: Plan, arm: Arm) -> Iterator[dict[str, Any]]:
    """The arm's draws; where they are not known, the ends of each domain and some at random."""
    yield from (draw.values for draw in plan.draws(arm))
    if arm.tune and plan.spec.search.algorithm == "tpe":
        yield from (
            {**_needed_for(arm, name), name: end} for name, domain in arm.tune.items() for end in domain.ends
        )
        for values in known_draws("random", plan.spec.tune, TRIED):
            yield drawn_for(arm.tune, values)


def _needed_for(arm: Arm, name: str) -> dict[str, Any]:
    """Other tuned values with which this one applies."""
    found: dict[str, Any] = {}
    for path, allowed in arm.tune[name].when.items():
        found |= {**_needed_for(arm, path), path: allowed[0]}
    return found


def _check_course(plan: Plan, what: str, config: BaseModel, known: dict[str, Any]) -> None:
    """A trial's length is the scheduler's, and its warm-up is over before the first rung."""
    scheduler, key = plan.spec.scheduler, known.get("horizon_key")
    if scheduler.max_t is not None and scheduler.time_attr == "samples" and plan.train_flops is None:
        horizon = plan.trainer.horizon(config, known)
        if horizon not in (None, scheduler.max_t):
            raise SpecError(
                f"{what}: {key} is {horizon:g}, but it is the horizon, which scheduler.max_t sets to "
                f"{scheduler.max_t:g} for all: leave it to max_t"
            )
    per_sample = {"samples": 1, "flops": known.get("flops_per_sample")}.get(scheduler.time_attr) or 0
    if scheduler.stops and plan.train_flops is not None and scheduler.grace_period < per_sample:
        raise SpecError(
            f"{what}: scheduler.grace_period: is {scheduler.grace_period:g} FLOPs, but a sample takes "
            f"{per_sample:g}: give it in FLOPs, such as a tenth of match.train_flops"
        )
    warmup = (known.get("warmup_samples") or 0) * per_sample
    if scheduler.stops and warmup and scheduler.grace_period <= warmup:
        raise SpecError(
            f"{what}: scheduler.grace_period: is {scheduler.grace_period:g} {scheduler.time_attr}, but the "
            f"warm-up lasts {warmup:g}: raise it above that, or shorten the warm-up"
        )


def _check_gpu(arm: Arm, what: str, known: dict[str, Any]) -> None:
    if known.get("needs_gpu") and not arm.gpu:
        raise SpecError(
            f"{what}: runs on a GPU only, but resources.gpu is 0: give it a GPU or a share of one, or "
            f"choose a backend that runs without"
        )


def _check_size(plan: Plan, arm: Arm, what: str, config: BaseModel, known: dict[str, Any]) -> None:
    """No draw may change the size that the arm was matched by."""
    match = plan.spec.match
    if match is None or arm.match is None:
        return
    name, said = SIZES["flops" if match.of == "train_flops" else match.of]
    if known.get(name) != getattr(arm, name):
        raise SpecError(
            f"{what}: has {known.get(name) or 0:,} {said}, but the arm is matched at {getattr(arm, name):,}: "
            f"tune nothing that changes the size, or remove match"
        )
    if match.of == "train_flops":
        flops = training_flops(plan.trainer, config, known)
        if abs(flops / arm.match.size - 1) > match.tolerance:
            raise SpecError(
                f"{what}: comes to {match.amount(flops)}, but the arm is matched at {arm.match.size:.4g}: "
                f"tune nothing that changes how many samples a step has, or raise match.tolerance"
            )


def _check_changes(plan: Plan) -> None:
    """`--set` of what every arm sets anew would change nothing, silently."""
    horizon_key = plan.trainer.describe(plan.trainer.configure(plan.spec.base, [], "base")).get("horizon_key")
    for key, value in plan.sources.changes:
        given = absolute_at(key, value, plan.trainer.config_model, Path.cwd())
        wanted = plan.trainer.configure(plan.spec.base, [(key, given)], "--set").model_dump(mode="json")
        kept = [
            arm
            for arm in plan.arms
            if not any(f"{key}.".startswith(f"{other}.") for other in (*arm.tune, *arm.sets))
            and (key != horizon_key or _at(arm.config, key) == _at(wanted, key))
        ]
        if not kept:
            raise SpecError(
                f"--set {key}={value}: changes nothing, as ablate, tune, match or scheduler.max_t set "
                f"{key} in every arm: edit the search space"
            )


def _at(config: dict[str, Any], key: str) -> Any:
    try:
        return get(config, key)
    except KeyError:
        return None


def _same_arms(one: Arm, other: Arm) -> str:
    levels_of = [{k: repr(level) for k, level in arm.levels.items()} for arm in (one, other)]  # 1 is not True
    factors = [k for k in one.levels | other.levels if levels_of[0].get(k) != levels_of[1].get(k)]
    levels = ", ".join(f"{k}: {one.levels.get(k)!r} and {other.levels.get(k)!r}" for k in factors)
    return (
        f"ablate.{factors[0] if factors else ''}: changes nothing between the arms {one.name} and "
        f"{other.name} ({levels}): both come to the same network and recipe: remove a level, restrict the "
        f"factor by `when`, or choose values that differ in effect"
    )


def _said(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())


def check_data(plan: Plan) -> str:
    """Let the trainer look at the data that the trials name, once for each. Raises SpecError.

    Returns the hashes that the trainer gives, in the plan's order: a sweep on other data is another sweep.
    """
    found: list[str] = []
    for config in data_configs(plan):
        try:
            found.append(data_hash(plan.trainer, config))
        except (ValueError, OSError) as error:
            reason = str(error).removeprefix("data: ")
            raise SpecError(f"{plan.source}: data: {reason}") from error
        except Exception as error:
            raise SpecError(
                f"{plan.source}: trainer: {plan.spec.trainer}: check(config) failed "
                f"({type(error).__name__}: {error}): mend it, or remove it"
            ) from error
    return joined(found)


def data_hash(trainer: Trainer, config: BaseModel) -> str:
    """The hash that the trainer gives of the config's data, shortened; '' if it gives none. Raises what its
    `check` raises."""
    return str(trainer.check(config) or "")[:16]


def joined(hashes: Iterable[str]) -> str:
    """Hashes as they are recorded: each once."""
    return " ".join(dict.fromkeys(filter(None, hashes)))


def data_configs(plan: Plan) -> Iterator[BaseModel]:
    """A config for each data that the trials name; with `seed_keys` each seed has data of its own."""
    seen: list[Any] = []
    for config in _configs(plan):
        data = config.model_dump(mode="json")
        data = data.get("data", data)
        if data not in seen:
            seen.append(data)
            yield config


def _configs(plan: Plan) -> Iterator[BaseModel]:
    """The configs of the trials that are known; of each seed where that changes the config."""
    seeds = plan.all_seeds if plan.spec.seed_keys else plan.spec.seeds[:1]
    for arm in plan.arms:
        for values in values_to_try(plan, arm):
            for seed in seeds:
                yield plan.trainer.configure(arm.config, plan.settings(values, seed), plan.source)
