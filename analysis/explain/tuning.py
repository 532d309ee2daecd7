"""What was tuned: the draws that each arm tried, what they reached, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare.ranking import counted_trials, ranking_phase
from analysis.sweep import Sweep

ENOUGH = 3  # values tried, below which the outermost says nothing of the range
LOGARITHMIC = ("loguniform", "logint")


def tuned(sweep: Sweep) -> list[str]:
    """The tuned keys of which the trials have values."""
    keys = [key for key in sweep.space.get("tune") or {} if key in sweep.trials]
    return [key for key in keys if sweep.trials[key].notna().any()]


def is_logarithmic(sweep: Sweep, key: str) -> bool:
    domain = (sweep.space.get("tune") or {}).get(key)
    return isinstance(domain, Mapping) and any(domain.get(kind) for kind in LOGARITHMIC)


def draws(sweep: Sweep) -> pd.DataFrame:
    """A row per arm and draw of the search: `arm`, `draw`, a column per tuned key, `value` (the objective's
    last value, mean over the search's seeds; NaN if it is not finite), `status` (`completed` if all of its
    trials have completed, else the worst of theirs), and whether it was `chosen`: trained anew in the
    evidence, or before there is any the one that the ranking uses."""
    keys, search = tuned(sweep), sweep.trials[sweep.trials["phase"] == "search"]
    chosen = _of_the_choice(sweep)
    pairs = set(zip(chosen["arm"], chosen["draw"], strict=True))
    rows: list[dict[str, Any]] = []
    for (arm, draw), mine in search.groupby(["arm", "draw"], sort=False):
        values = mine[sweep.metric]
        rest = mine.loc[mine["status"] != "completed", "status"]
        rows.append({
            "arm": arm, "draw": draw, **{key: mine[key].iloc[0] for key in keys},
            "value": values[np.isfinite(values)].mean(),
            "status": rest.iloc[0] if len(rest) else "completed", "chosen": (arm, draw) in pairs,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "draw", *keys, "value", "status", "chosen"])


def chosen_values(sweep: Sweep) -> dict[str, dict[str, list[Any]]]:
    """By arm and tuned key, the values of the draws that were chosen; keys that an arm lacks are left out."""
    found: dict[str, dict[str, list[Any]]] = {arm: {} for arm in sweep.arms}
    for arm, mine in _of_the_choice(sweep).groupby("arm"):
        for key in tuned(sweep):
            if values := list(dict.fromkeys(mine[key].dropna())):
                found[str(arm)][key] = values
    return found


def at_edge(sweep: Sweep) -> dict[tuple[str, str], str]:
    """By arm and tuned key: "lowest" or "highest" where the choice is the outermost of the numbers tried, so
    that a better one may lie beyond. Of fewer than ENOUGH nothing is said."""
    tried, found = draws(sweep), {}
    for arm, keys in chosen_values(sweep).items():
        for key, values in keys.items():
            seen = pd.to_numeric(tried.loc[tried["arm"] == arm, key], errors="coerce").dropna().unique()
            if len(seen) < ENOUGH or len(values) != 1 or values[0] not in seen:
                continue
            if values[0] in (seen.min(), seen.max()):
                found[arm, key] = "lowest" if values[0] == seen.min() else "highest"
    return found


def _of_the_choice(sweep: Sweep) -> pd.DataFrame:
    """The trials of the draws that were chosen."""
    if ranking_phase(sweep) == "evidence":
        return sweep.trials[sweep.trials["phase"] == "evidence"]
    return counted_trials(sweep)
