"""`--extend`: checks that a changed search space only adds to the recorded sweep."""

from __future__ import annotations

import copy
from typing import Any

from sweeps.plan.checks import values_to_try
from sweeps.plan.identity import differences
from sweeps.plan.model import Plan


def refusals(plan: Plan, stored: dict[str, Any]) -> list[str]:
    """The differences between `plan` and the sweep with the identity `stored` that are not additions, a line
    for each.

    Additions are: arms, draws, seeds, and a longer `max_t` (or more training FLOPs, if `match` makes these
    equal) if a longer trial begins exactly as a shorter one.
    They leave the trials and decisions that are already recorded valid.
    """
    current = copy.deepcopy(plan.identity)
    if plan.rule is not None and plan.rule.anytime:  # an e-process was begun with these arms and this length
        _forget_more_looks(stored, current)
        _forget_new_seeds(plan, stored, current)
        return differences(stored, current)
    _forget_new_arms(stored, current)
    _forget_new_draws(stored, current)
    _forget_more_looks(stored, current)  # before the seeds from which they follow
    _forget_new_seeds(plan, stored, current)
    _forget_longer_runs(plan, stored, current)
    return [line + _allowed_change(line) for line in differences(stored, current)]


# Each of these removes one kind of addition from `current`, so that it is not a difference.


def _forget_new_arms(stored: dict[str, Any], current: dict[str, Any]) -> None:
    current["arms"] = {name: keys for name, keys in current["arms"].items() if name in stored["arms"]}


def _forget_new_draws(stored: dict[str, Any], current: dict[str, Any]) -> None:
    more = current["search"].get("draws_per_arm", 0) > stored["search"].get("draws_per_arm", 0)
    if more and current["draws"][: len(stored["draws"])] == stored["draws"]:
        current["search"]["draws_per_arm"] = stored["search"]["draws_per_arm"]
        current["draws"] = stored["draws"]


def _forget_new_seeds(plan: Plan, stored: dict[str, Any], current: dict[str, Any]) -> None:
    # A scheduler judges by the mean over seeds, which new seeds would change.
    stops_early = plan.spec.scheduler.stops
    if set(current["seeds"]) >= set(stored["seeds"]) and (plan.spec.tune or not stops_early):
        current["seeds"] = stored["seeds"]
    new, old = current["search"].get("seeds", []), stored["search"].get("seeds", [])
    if old and not stops_early and set(new) >= set(old):
        current["search"]["seeds"] = old


def _forget_longer_runs(plan: Plan, stored: dict[str, Any], current: dict[str, Any]) -> None:
    section, name = ("match", "train_flops") if "match" in stored else ("scheduler", "max_t")
    old, new = stored[section].get(name), current.get(section, {}).get(name)
    if not (old and new and new > old) or ("match" in stored) != ("match" in current):
        return
    descriptions = [
        plan.trainer.describe(plan.trainer.configure(arm.config, values.items(), arm.name))
        for arm in plan.arms
        for values in values_to_try(plan, arm)
    ]
    if not all(description.get("extendable") for description in descriptions):
        return
    key = descriptions[0].get("horizon_key")
    if "max_t" in stored["scheduler"]:
        current["scheduler"]["max_t"] = stored["scheduler"]["max_t"]
    if "match" in stored:  # each arm has a length of its own
        current["match"] = stored["match"]
        for arm, keys in current["arms"].items():
            keys.pop(key, None)
            keys |= {own: value for own, value in stored["arms"][arm].items() if own == key}
        current["base"][key] = stored["base"][key]
    # Only a max_t in samples is written into the base.
    elif key in stored["base"] and plan.spec.scheduler.time_attr == "samples":
        current["base"][key] = stored["base"][key]


def _forget_more_looks(stored: dict[str, Any], current: dict[str, Any]) -> None:
    # Looks follow from the seeds; the plan's were recorded when it was begun. A seed that the baseline alone
    # had may become one of all arms.
    if "evidence" not in stored or "evidence" not in current:
        return
    if len(current["seeds"]) > len(stored["seeds"]):
        current["evidence"]["looks"] = stored["evidence"]["looks"]
    old, new = (each["evidence"]["baseline_seeds"] for each in (stored, current))
    if set(old) <= {*new, *current["seeds"]}:
        current["evidence"]["baseline_seeds"] = old


def _allowed_change(line: str) -> str:
    """For a line of `differences`: which change of this key would be an addition; '' if none is."""
    key = line.partition(":")[0]
    if key == "seeds" or key == "search.seeds":
        return (
            " (seeds can only be added, and only where no scheduler judges by their mean, which would change)"
        )
    if key == "evidence.looks":
        return " (looks change only with the number of seeds)"
    if key == "evidence.baseline_seeds":
        return " (seeds can only be added)"
    if key in ("scheduler.max_t", "match.train_flops"):
        return (
            " (it can only be raised, and only if describe(config) returns `extendable`: a longer run begins "
            "exactly as a shorter one, as with a constant learning rate)"
        )
    return ""
