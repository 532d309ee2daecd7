"""What share of the spread of ranks each factor, tuned value and the seed accounts for, alone.

One-way epsilon squared (Kelley 1935) of ranks: the share of the ranks' variance between the groups of a name,
corrected for chance. It is no functional ANOVA: no model is fitted, interactions are left out, and shares
need not add up to 1. Ranks, because accuracies of tuned runs are far from normal. Only trials that were not
selected on their own result count, at the last number of samples that all of them reached, on the metric by
which the scheduler judges them, as that is what differs so early.

The unit is a draw of an arm, by the mean over its seeds; where nothing is tuned, a trial. A factor is judged
by ranks among all units that have it. A tuned value and the seed are judged within the arms: by each unit's
rank in its arm, pooled over the arms, so that a difference between arms is not taken for theirs. Tuned
numbers are binned into quarters. Where more than half of the values are equal, ranks say nothing: the share
is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.design import levels
from analysis.format import few
from analysis.stopping.common_samples import unselected
from analysis.sweep import Sweep

BINS = 4
SHUFFLES = 1_000
COLUMNS = ("name", "kind", "n", "n_levels", "share", "chance", "metric", "at", "note")


@dataclass(frozen=True)
class _Ranked:
    """Of each unit the `group`, the `rank` from -1/2 to 1/2 and the `pool` that it is ranked in; none if ties
    rule. `note` says what was left out, or why there is nothing."""

    group: np.ndarray
    rank: np.ndarray
    pool: np.ndarray
    note: str = ""


def importances(sweep: Sweep, metric: str | None = None, seed: int = 0) -> pd.DataFrame:
    """A row per factor, tuned value and "seed", the largest share first; columns: COLUMNS.

    `share`, from 0 to 1, is that of the variance of the ranks of `metric` among `n` units (default: the
    metric that the scheduler judges by, else the objective). `chance` is what it stays below in 95% of
    SHUFFLES of the same ranks in their pools, drawn from `seed`. Both are NaN if the share is refused: `note`
    says why. `kind` is "factor", "tuned" or "seed"; `at` is where the values are from, in samples (in
    training FLOPs if `match` gives arms equal ones), NaN for final ones.
    """
    metric = metric or sweep.judged_metric
    pool = unselected(sweep, metric)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for name, kind, ranked in _names(sweep, pool.trials):
        row: dict[str, Any] = {"name": name, "kind": kind, "metric": metric, "at": pool.at}
        row |= {"n": len(ranked.rank), "n_levels": len(np.unique(ranked.group)), "note": ranked.note}
        row["share"] = share_of(ranked.group, ranked.rank, len(np.unique(ranked.pool)))
        if math.isfinite(row["share"]):
            row["chance"] = _chance(ranked, rng)
        elif not ranked.note:
            row["note"] = "too few values for its levels"
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)


def share_of(groups: np.ndarray, values: np.ndarray, pools: int = 1) -> float:
    """Epsilon squared: 1 - (mean square within groups) / (mean square in all), not below 0.

    `values` have mean 0 in each of `pools` pools if there are several. NaN with fewer than two groups, no
    degree of freedom within them, or no variance.
    """
    return float(_shares(groups, values[None], pools)[0])


def _shares(groups: np.ndarray, rows: np.ndarray, pools: int) -> np.ndarray:
    """`share_of` each of `rows` [rows, values]: [rows]."""
    names, places = np.unique(groups, return_inverse=True)
    freedom = len(groups) - pools
    if len(names) < 2 or freedom < len(names):
        return np.full(len(rows), math.nan)
    member = np.eye(len(names))[places]  # [values, groups]
    centred = rows - rows.mean(axis=1, keepdims=True)
    total = (centred**2).sum(axis=1)
    between = ((centred @ member) ** 2 / member.sum(axis=0)).sum(axis=1)
    spread = total > 1e-24 * len(groups) * np.abs(rows).max(axis=1) ** 2
    within = (total - between) / (freedom - len(names) + 1)
    return np.where(spread, np.maximum(0.0, 1 - within / np.where(spread, total / freedom, 1.0)), math.nan)


def _chance(ranked: _Ranked, rng: np.random.Generator) -> float:
    shuffled = np.tile(ranked.rank, (SHUFFLES, 1))
    pools = np.unique(ranked.pool)
    for pool in pools:
        here = ranked.pool == pool
        shuffled[:, here] = rng.permuted(shuffled[:, here], axis=1)
    return float(np.quantile(_shares(ranked.group, shuffled, len(pools)), 0.95))


def _names(sweep: Sweep, trials: pd.DataFrame) -> list[tuple[str, str, _Ranked]]:
    """Name, kind and ranked units."""
    table, tuned = levels(sweep), [name for name in sweep.space.get("tune") or {} if name in trials]
    units = trials
    if sweep.space.get("tune"):
        kept: dict[str, Any] = {"value": "mean", **dict.fromkeys(tuned, "first")}
        units = trials.groupby(["arm", "draw"], sort=False).agg(kept).reset_index()
    found = [
        (factor, "factor", _among_all(units, units["arm"].map(table[factor])))
        for factor in sweep.factors
        if table[factor].nunique() > 1
    ]
    found += [(str(name), "tuned", _within_arms(units, _binned(units[name]), "draws")) for name in tuned]
    if trials["seed"].nunique() > 1:
        found.append(("seed", "seed", _within_arms(trials, trials["seed"], "trials")))
    return found


def _among_all(units: pd.DataFrame, level: pd.Series) -> _Ranked:
    there = units[level.notna()]
    if _ties_rule(there["value"]):
        most = int(there["value"].value_counts().iloc[0])
        return _nothing(f"ties: {most} of {len(there)} values are equal")
    return _Ranked(pd.factorize(level[there.index])[0], _ranks(there["value"]), np.zeros(len(there)))


def _within_arms(units: pd.DataFrame, group: pd.Series, named: str) -> _Ranked:
    there = units[group.notna()]
    tied = [str(arm) for arm, values in there.groupby("arm", sort=False)["value"] if _ties_rule(values)]
    if len(tied) == there["arm"].nunique() and tied:
        return _nothing(f"ties: more than half of the {named} of every arm have the same value")
    there = there[~there["arm"].isin(tied)]
    ranks = there.groupby("arm")["value"].transform(lambda values: _ranks(values))
    note = f"without {few(tied)}, where ties rule" if tied else ""
    groups = pd.factorize(group[there.index])[0]
    return _Ranked(groups, ranks.to_numpy(), pd.factorize(there["arm"])[0], note)


def _nothing(note: str) -> _Ranked:
    return _Ranked(np.zeros(0), np.zeros(0), np.zeros(0), note)


def _ties_rule(values: pd.Series) -> bool:
    """Whether more than half of two or more values are equal."""
    return len(values) > 1 and bool(values.value_counts().iloc[0] > len(values) / 2)


def _ranks(values: pd.Series) -> np.ndarray:
    """Mean ranks from -1/2 to 1/2."""
    return ((values.rank() - 0.5) / len(values) - 0.5).to_numpy()


def _binned(values: pd.Series) -> pd.Series:
    """Groups of values: numbers in quarters of about equal size, others by value; missing ones stay so."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers[values.notna()].isna().any() or numbers.nunique() <= BINS:
        return values.astype(str).where(values.notna())
    return pd.qcut(numbers.rank(), BINS, labels=False, duplicates="drop")
