"""Whether a changed space only adds to a sweep: `--extend`."""

from __future__ import annotations

import copy
from typing import Any

from sweeps.checks import values_to_try
from sweeps.identity import differences
from sweeps.plan import Plan


def refusals(plan: Plan, there: dict[str, Any]) -> list[str]:
    """What of `plan` is more than an addition to the sweep with the identity `there`, a line for each.

    Additions are: arms, draws, seeds, and a longer `max_t` where what a trial does up to its old end does
    not depend on it. Everything that was run must mean what it meant, and every decision stand.
    """
    here = copy.deepcopy(plan.identity)
    _forget_new_arms(there, here)
    _forget_new_draws(there, here)
    _forget_new_seeds(plan, there, here)
    _forget_longer_runs(plan, there, here)
    return [line + _why(line) for line in differences(there, here)]


def _forget_new_arms(there: dict[str, Any], here: dict[str, Any]) -> None:
    here["arms"] = {name: keys for name, keys in here["arms"].items() if name in there["arms"]}


def _forget_new_draws(there: dict[str, Any], here: dict[str, Any]) -> None:
    more = here["search"].get("draws_per_arm", 0) > there["search"].get("draws_per_arm", 0)
    if more and here["draws"][: len(there["draws"])] == there["draws"]:
        here["search"]["draws_per_arm"] = there["search"]["draws_per_arm"]
        here["draws"] = there["draws"]


def _forget_new_seeds(plan: Plan, there: dict[str, Any], here: dict[str, Any]) -> None:
    judged = plan.spec.scheduler.kind != "fifo"  # by the mean over seeds, which new ones would change
    if set(here["seeds"]) >= set(there["seeds"]) and (plan.spec.tune or not judged):
        here["seeds"] = there["seeds"]
    new, old = here["search"].get("seeds", []), there["search"].get("seeds", [])
    if old and not judged and set(new) >= set(old):
        here["search"]["seeds"] = old


def _forget_longer_runs(plan: Plan, there: dict[str, Any], here: dict[str, Any]) -> None:
    old, new = there["scheduler"].get("max_t"), here["scheduler"].get("max_t")
    if not (old and new and new > old):
        return
    known = [
        plan.trainer.describe(plan.trainer.configure(arm.config, values.items(), arm.name))
        for arm in plan.arms
        for values in values_to_try(plan, arm)
    ]
    if all(each.get("extendable") for each in known):
        here["scheduler"]["max_t"] = old
        key = known[0].get("horizon_key")
        if key in there["base"] and plan.spec.scheduler.time_attr == "samples":  # else max_t does not set it
            here["base"][key] = there["base"][key]


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
