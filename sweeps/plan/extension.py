"""Whether a changed space only adds to a sweep: `--extend`."""

from __future__ import annotations

import copy
from typing import Any

from sweeps.plan.checks import values_to_try
from sweeps.plan.identity import differences
from sweeps.plan.model import Plan


def refusals(plan: Plan, stored: dict[str, Any]) -> list[str]:
    """What of `plan` is more than an addition to the sweep with the identity `there`, a line for each.

    Additions are: arms, draws, seeds, and a longer `max_t` where what a trial does up to its old end does
    not depend on it. Everything that was run must mean what it meant, and every decision stand.
    """
    current = copy.deepcopy(plan.identity)
    _forget_new_arms(stored, current)
    _forget_new_draws(stored, current)
    _forget_new_seeds(plan, stored, current)
    _forget_longer_runs(plan, stored, current)
    return [line + _why(line) for line in differences(stored, current)]


def _forget_new_arms(stored: dict[str, Any], current: dict[str, Any]) -> None:
    current["arms"] = {name: keys for name, keys in current["arms"].items() if name in stored["arms"]}


def _forget_new_draws(stored: dict[str, Any], current: dict[str, Any]) -> None:
    more = current["search"].get("draws_per_arm", 0) > stored["search"].get("draws_per_arm", 0)
    if more and current["draws"][: len(stored["draws"])] == stored["draws"]:
        current["search"]["draws_per_arm"] = stored["search"]["draws_per_arm"]
        current["draws"] = stored["draws"]


def _forget_new_seeds(plan: Plan, stored: dict[str, Any], current: dict[str, Any]) -> None:
    judged = plan.spec.scheduler.stops  # by the mean over seeds, which new ones would change
    if set(current["seeds"]) >= set(stored["seeds"]) and (plan.spec.tune or not judged):
        current["seeds"] = stored["seeds"]
    new, old = current["search"].get("seeds", []), stored["search"].get("seeds", [])
    if old and not judged and set(new) >= set(old):
        current["search"]["seeds"] = old


def _forget_longer_runs(plan: Plan, stored: dict[str, Any], current: dict[str, Any]) -> None:
    old, new = stored["scheduler"].get("max_t"), current["scheduler"].get("max_t")
    if not (old and new and new > old):
        return
    known = [
        plan.trainer.describe(plan.trainer.configure(arm.config, values.items(), arm.name))
        for arm in plan.arms
        for values in values_to_try(plan, arm)
    ]
    if all(each.get("extendable") for each in known):
        current["scheduler"]["max_t"] = old
        key = known[0].get("horizon_key")
        if key in stored["base"] and plan.spec.scheduler.time_attr == "samples":  # else max_t does not set it
            current["base"][key] = stored["base"][key]


def _why(line: str) -> str:
    key = line.partition(":")[0]
    if key == "seeds" or key == "search.seeds":
        return (
            " (only added seeds are taken, and not those that a scheduler judges by: their mean would change)"
        )
    if key == "scheduler.max_t":
        return (
            " (only a longer one is taken, and where describe(config) says that a longer run begins as a "
            "shorter one, `extendable`, as with a constant rate)"
        )
    return ""
