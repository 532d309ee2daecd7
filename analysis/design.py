"""The design of the sweep: the levels of each arm, and the arms that differ in one factor only."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.sweep import Sweep


def levels(sweep: Sweep) -> pd.DataFrame:
    """A row per arm, a column per factor; levels as text, None if a factor does not apply to the arm."""
    arms = sweep.resolved.get("arms") or {}
    rows = {arm: (arms.get(arm) or {}).get("levels") or {} for arm in sweep.arms}
    text = {
        factor: [str(given[factor]) if given.get(factor) is not None else None for given in rows.values()]
        for factor in sweep.factors
    }
    return pd.DataFrame(text, index=list(rows), columns=sweep.factors, dtype=object)


def levels_of(table: pd.DataFrame, factor: str, baseline: str) -> list[str]:
    """A factor's levels, the baseline's first, then in the order of the plan."""
    found = list(dict.fromkeys(table[factor].dropna()))
    first = str(table[factor].get(baseline))
    return [first, *[level for level in found if level != first]] if first in found else found


def dependents(table: pd.DataFrame, factor: str) -> set[str]:
    """Factors that apply at some levels of `factor` only, as `d_state` does for SSM mixers."""
    has = table.notna().groupby(table[factor]).any()
    return {
        str(other) for other in table.columns if other != factor and has[other].any() and not has[other].all()
    }


def contexts(table: pd.DataFrame, varied: Iterable[str]) -> pd.Series:
    """For each arm, the levels of all factors except `varied` and the factors that depend on them.

    Arms with equal contexts differ in the varied factors only.
    """
    varied = list(varied)
    dropped = set(varied).union(*(dependents(table, factor) for factor in varied))
    kept = [factor for factor in table.columns if factor not in dropped]
    return pd.Series(
        [tuple(row) for row in table[kept].itertuples(index=False, name=None)], index=table.index
    )
