"""The effect of a factor: a level against the baseline's, over pairs of arms that differ in it only."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.compare.ranking import claim_of, seed_table
from analysis.design import contexts, levels, levels_of
from analysis.inference.intervals import mean_interval, of_differences
from analysis.sweep import Sweep

COLUMNS = ("factor", "level", "reference", "n_arms", "n", "effect", "low", "high", "interval", "claim")


def effects(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """A row per level of each factor except its reference: the baseline's level, else the plan's first.

    `effect` is the mean over the `n_arms` matched pairs of arms (the same levels of all other factors) and
    the `n` seeds at which all of them have a value of `metric` (default: the test split's objective);
    `low`, `high` its 95% interval over seeds. If another factor depends on this one, as d_state on the
    mixer, the value is the mean over its levels. Effects are averages: if an interaction is large, they
    describe no single arm. Levels without a matched pair have n_arms 0.
    """
    metric = metric or sweep.test_metric or sweep.metric
    values, table = seed_table(sweep, metric), levels(sweep)
    limits = of_differences(sweep.unit(metric).limits)
    rows: list[dict[str, Any]] = []
    for factor in sweep.factors:
        there = table[table[factor].notna()]
        where = contexts(table, [factor]).loc[there.index]
        names = levels_of(table, factor, sweep.baseline)
        for level in names[1:]:
            gaps = _gaps(values, there[factor], where, level, names[0])
            found = mean_interval(gaps.mean(axis=1, skipna=False).dropna()) if len(gaps.columns) else None
            row: dict[str, Any] = {"factor": factor, "level": level, "reference": names[0]}
            row |= {"n_arms": len(gaps.columns), "n": found.n if found else 0, "claim": claim_of(sweep)}
            if found:
                found = found.cut(limits)
                row |= {"effect": found.mean, "low": found.low, "high": found.high, "interval": found.method}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _gaps(
    values: pd.DataFrame, level_of: pd.Series, where: pd.Series, level: str, reference: str
) -> pd.DataFrame:
    """Differences at each seed (rows); a column per context that has both levels."""
    found = {}
    for context in dict.fromkeys(where):
        here = level_of[where == context]
        cells = [list(here[here == name].index) for name in (level, reference)]
        if all(cells):
            mine, other = (values[arms].mean(axis=1, skipna=False) for arms in cells)
            found[context] = mine - other
    return pd.DataFrame(dict(enumerate(found.values())), index=values.index)
