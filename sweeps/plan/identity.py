"""The identity of a sweep (two plans with the same one are the same sweep), and the content of sweep.yaml."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from sweeps.plan.model import Plan
from sweeps.space.encoding import encode
from trm.settings.overrides import flatten
from trm.settings.versions import new_path, with_new_names

_NOT_SET = "not set"
_MAX_SHOWN = 100  # characters of a value in a message


def identity(plan: Plan) -> dict[str, Any]:
    """Trainer, objective, base, arms, draws, search, scheduler, seeds and the rule of the evidence, as JSON
    values.

    An arm is stored as the keys in which its config differs from the base, so that a changed key of the base
    is one difference and not one for each arm.
    """
    spec = plan.spec
    base = flatten(plan.trainer.configure(spec.base, [], "base").model_dump(mode="json"))
    content = {
        "trainer": spec.trainer,
        "objective": spec.objective.model_dump(include={"metric", "mode"}),
        "base": base,
        "arms": {arm.name: _changed_keys(base, flatten(arm.config)) for arm in plan.arms},
        "tune": _tune(plan),
        "search": spec.search.effective_keys() if spec.tune else {},
        "draws": plan.known_draws,
        "scheduler": spec.scheduler.effective_keys(),
        "seeds": list(spec.seeds),
    }
    if spec.seed_keys:
        content["seed_keys"] = list(spec.seed_keys)
    if plan.train_flops is not None:
        content["match"] = {"train_flops": plan.train_flops}
    if plan.rule is not None:
        rule = {**dataclasses.asdict(plan.rule), "looks": list(plan.rule.looks)}
        evidence = {**rule, "baseline_seeds": list(plan.more_baseline_seeds)}
        content |= {"baseline": plan.baseline, "evidence": evidence, "objective": spec.objective.model_dump()}
    as_json: dict[str, Any] = json.loads(json.dumps(encode(content), allow_nan=False, default=str))
    return as_json


def _changed_keys(base: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in base or base[key] != value}


def under_recorded_names(plan: Plan, stored: dict[str, Any]) -> dict[str, Any]:
    """The plan's identity with the names that the keys of its configs have in the identity `stored`, of a
    sweep that may be older than their new names."""

    def named(current: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        old = {new_path(key, plan.trainer.config_model): key for key in before}
        found = {}
        for key, value in current.items():
            recorded = before.get(old.get(key, key))
            is_same = with_new_names(recorded, plan.trainer.config_model) == value
            found[old.get(key, key)] = recorded if is_same else value
        return found

    arms = {name: named(keys, stored["arms"].get(name, {})) for name, keys in plan.identity["arms"].items()}
    return plan.identity | {"base": named(plan.identity["base"], stored["base"]), "arms": arms}


def differences(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """A line for each key that differs: `search.draws_per_arm: 8 before, 4 now`."""
    old, new = _lines(stored), _lines(current)
    keys = [key for key in dict.fromkeys([*old, *new]) if _value_text(old, key) != _value_text(new, key)]
    if len(keys) > 1:
        keys = [key for key in keys if key != "draws"]  # the draws follow from the other keys
    return [
        f"{key}: {_shortened(_value_text(old, key))} before, {_shortened(_value_text(new, key))} now"
        for key in keys
    ]


def _lines(content: dict[str, Any]) -> dict[str, Any]:
    """The flattened content, except that each arm stays one entry."""
    arms = {f"arms.{name}": keys for name, keys in content.get("arms", {}).items()}
    return flatten({key: value for key, value in content.items() if key != "arms"}) | arms


def _value_text(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return _NOT_SET
    value = values[key]
    # A version may declare a config's fields in another order, which is no difference.
    return repr(dict(sorted(value.items())) if isinstance(value, dict) else value)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def resolved(plan: Plan) -> dict[str, Any]:
    """The content of sweep.yaml: a search space that can be launched again, and under `resolved` the
    identity, the arms and what the report needs."""
    spec = plan.spec
    ablate = {key: each.model_dump(mode="json", exclude_defaults=True) for key, each in spec.ablate.items()}
    space: dict[str, Any] = {
        "name": spec.name,
        "trainer": spec.trainer,
        "base": spec.base,
        "objective": spec.objective.model_dump(),
        "ablate": ablate,
        "design": spec.design,
    }
    if spec.match is not None:
        space["match"] = spec.match.model_dump(mode="json", exclude_none=True)
    if spec.tune:
        space |= {"tune": _tune(plan), "search": spec.search.effective_keys()}
    space |= {
        "scheduler": spec.scheduler.effective_keys(),
        "seeds": list(spec.seeds),
        "evidence": spec.evidence.model_dump(mode="json"),
        "resources": spec.resources.model_dump(mode="json", exclude_defaults=True) or {"cpu": 1},
        "max_concurrent": spec.max_concurrent,
        "max_failures": spec.max_failures,
    }
    if spec.seed_keys:
        space["seed_keys"] = list(spec.seed_keys)
    if spec.max_silence_s is not None:
        space["max_silence_s"] = spec.max_silence_s
    if spec.max_checkpoint_gb is not None:
        space["max_checkpoint_gb"] = spec.max_checkpoint_gb
    if limits := spec.budget.model_dump(exclude_none=True):
        space["budget"] = limits
    arms = {
        arm.name: {
            "levels": arm.levels,
            "num_params": arm.num_params,
            "flops_per_sample": arm.flops_per_sample,
            "horizon": arm.horizon,
        }
        | ({"match": dataclasses.asdict(arm.match)} if arm.match is not None else {})
        for arm in plan.arms
    }
    derived = {
        "hash": plan.hash,
        "horizon": plan.horizon,
        "baseline": plan.baseline,
        "factors": list(spec.ablate),
        "units": plan.units,
        "arms": arms,
    }
    copied: dict[str, Any] = json.loads(json.dumps(space, default=str))  # YAML would alias shared objects
    return copied | {"resolved": json.loads(json.dumps(derived | {"identity": plan.identity}, default=str))}


def _tune(plan: Plan) -> dict[str, Any]:
    return {
        name: domain.model_dump(mode="json", exclude_defaults=True) for name, domain in plan.spec.tune.items()
    }
