"""Checks of `seed_keys`: the config keys that take the trial's seed, so that a seed redraws the data too."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.plan.model import Arm, Plan
from sweeps.space.dotted import get
from sweeps.space.errors import SpecError
from trm.settings.messages import did_you_mean, dotted_keys


def check_seed_keys(plan: Plan) -> None:
    """Raise SpecError for a key that something else sets, that an arm's config does not have, or that does
    not take an integer."""
    for key in plan.spec.seed_keys:
        for other, what in _other_settings(plan):
            if f"{other}.".startswith(f"{key}."):
                raise SpecError(
                    f"seed_keys: {key}: takes the trial's seed, but {what} sets {other}: remove one"
                )
        for arm in plan.arms:
            _check_key(plan, arm, key)


def _other_settings(plan: Plan) -> Iterator[tuple[str, str]]:
    """The keys that the search space or the command line sets, and what sets each."""
    spec = plan.spec
    for name, factor in spec.ablate.items():
        levels = (factor.levels or {"": {name: None}}).values()
        yield from ((key, f"ablate.{name}") for settings in levels for key in settings)
    yield from ((name, f"tune.{name}") for name in spec.tune)
    if spec.match is not None:
        yield spec.match.by, "match.by"
    yield from ((key, "--set") for key, _ in plan.sources.changes)


def _check_key(plan: Plan, arm: Arm, key: str) -> None:
    try:
        get(arm.config, key)
    except KeyError:
        known = dotted_keys(plan.trainer.config_model)
        remedy = "name one that all have" if key in known else did_you_mean(key, known)
        raise SpecError(
            f"seed_keys: {key}: is no key of the config of arm {arm.name}, and every arm needs it: {remedy}"
        ) from None
    for seed in dict.fromkeys((plan.all_seeds[0], max(plan.all_seeds))):
        remedy = "name a key that takes every seed, as an integer"
        try:
            config = plan.trainer.configure(arm.config, [(key, seed)], "seed_keys")
        except SpecError as error:
            raise SpecError(f"{error} (the seed, in arm {arm.name}): {remedy}") from error
        value = get(config.model_dump(), key)
        if type(value) is not int or value != seed:
            raise SpecError(
                f"seed_keys: {key}: becomes {value!r} with the seed {seed}, in arm {arm.name}: {remedy}"
            )
