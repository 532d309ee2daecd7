"""The effect of a factor: a level against the baseline's, over pairs of arms that differ in it only."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.compare.claims import rule_of
from analysis.compare.ranking import claim_of, seed_table
from analysis.design import contexts, levels, levels_of
from analysis.inference.contrasts import contrast
from analysis.inference.intervals import of_differences
from analysis.sweep import Sweep

COLUMNS = (
    "factor", "level", "reference", "n_arms", "n", "effect", "low", "high", "values", "interval", "claim",
)  # fmt: skip


def effects(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """A row per level of each factor except its reference: the baseline's level, else the plan's first.

    `effect` is the mean over the `n_arms` matched pairs of arms (the same levels of all other factors) of
    the difference in `metric` (default: the test split's objective); `low`, `high` its 95% interval over
    seeds. It is a contrast of these arms' means (analysis.inference.contrasts) by the sweep's
    `evidence.pairing`: `n` and `values` are as there. If another factor depends on this one, as d_state on
    the mixer, the value is the mean over its levels. Effects are averages: if an interaction is large, they
    describe no single arm. Levels without a matched pair have n_arms 0.
    """
    metric = metric or sweep.shown_metric
    values, known = seed_table(sweep, metric), effect_weights(sweep)
    limits = of_differences(sweep.unit(metric).limits)
    pairing = rule_of(sweep).pairing
    rows: list[dict[str, Any]] = []
    for (factor, level, reference), pairs in _matched(sweep).items():
        row: dict[str, Any] = {"factor": factor, "level": level, "reference": reference}
        row |= {"n_arms": len(pairs), "n": 0, "claim": claim_of(sweep), "values": ()}
        if weights := known.get((factor, level, reference)):
            gap = contrast(values[[*weights]], [*weights.values()], pairing)
            found = gap.interval.cut(limits)
            row |= {"n": gap.n, "effect": gap.value, "low": found.low, "high": found.high}
            row |= {"values": gap.values, "interval": found.method}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def effect_weights(sweep: Sweep) -> dict[tuple[str, str, str], dict[str, float]]:
    """Each arm's weight in the effect of a (factor, level, reference), for those with a matched pair."""
    return {key: _weights(pairs) for key, pairs in _matched(sweep).items() if pairs}


def _matched(sweep: Sweep) -> dict[tuple[str, str, str], list[tuple[list[str], list[str]]]]:
    """The matched pairs of arms of each (factor, level, reference)."""
    table, found = levels(sweep), {}
    for factor in sweep.factors:
        there = table[table[factor].notna()]
        where = contexts(table, [factor]).loc[there.index]
        reference, *others = levels_of(table, factor, sweep.baseline)
        for level in others:
            found[factor, level, reference] = _pairs(there[factor], where, level, reference)
    return found


def _pairs(
    level_of: pd.Series, where: pd.Series, level: str, reference: str
) -> list[tuple[list[str], list[str]]]:
    """The arms at the level and those at the reference, for each context that has both."""
    found = []
    for context in dict.fromkeys(where):
        here = level_of[where == context]
        mine, others = (list(here[here == name].index) for name in (level, reference))
        if mine and others:
            found.append((mine, others))
    return found


def _weights(pairs: list[tuple[list[str], list[str]]]) -> dict[str, float]:
    """Each arm's weight in the mean difference; every pair counts alike."""
    weights: dict[str, float] = {}
    for mine, others in pairs:
        weights |= {arm: 1 / (len(pairs) * len(mine)) for arm in mine}
        weights |= {arm: -1 / (len(pairs) * len(others)) for arm in others}
    return weights
