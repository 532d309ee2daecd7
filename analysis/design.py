"""The design behind the arms: each one's levels, and which arms differ in one factor alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import pandas as pd

from analysis.sweep import Sweep

Context = tuple[Hashable, ...]


def levels(sweep: Sweep) -> pd.DataFrame:
    """A row an arm, a column a factor; levels as text, None where a factor does not apply to the arm."""
    arms = sweep.resolved.get("arms") or {}
    rows = {arm: (arms.get(arm) or {}).get("levels") or {} for arm in sweep.arms}
    text = {
        factor: [str(given[factor]) if given.get(factor) is not None else None for given in rows.values()]
        for factor in sweep.factors
    }
    return pd.DataFrame(text, index=list(rows), columns=sweep.factors, dtype=object)


def levels_of(table: pd.DataFrame, factor: str, baseline: str) -> list[str]:
    """A factor's levels in the order of the plan, the baseline's first."""
    found = list(dict.fromkeys(table[factor].dropna()))
    first = str(table[factor].get(baseline))
    return [first, *[level for level in found if level != first]] if first in found else found


def dependents(table: pd.DataFrame, factor: str) -> set[str]:
    """Factors that exist at some levels of `factor` alone, as `d_state` does for SSM mixers."""
    has = table.notna().groupby(table[factor]).any()
    return {
        str(other) for other in table.columns if other != factor and has[other].any() and not has[other].all()
    }


def contexts(table: pd.DataFrame, varied: Iterable[str]) -> pd.Series:
    """For each arm the levels of all factors but `varied` and those that depend on these: arms of one context
    differ in what is varied alone."""
    varied = list(varied)
    dropped = set(varied).union(*(dependents(table, factor) for factor in varied))
    kept = [factor for factor in table.columns if factor not in dropped]
    return pd.Series(
        [tuple(row) for row in table[kept].itertuples(index=False, name=None)], index=table.index
    )
