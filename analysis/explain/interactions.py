"""Interactions of two factors: what two levels do together beyond what each does alone.

For each level of A and each of B but the references (the baseline's levels), the contrast of four cells
(A, B) - (A, reference) - (reference, B) + (reference, reference), averaged over the contexts in which the two
factors are fully crossed: one degree of freedom, and a t-test that assumes no equal spread of the arms
(analysis.inference.contrasts). An F test of all of them together would: with SDs of arms as far apart as 1 to
17, it rejects a true null in 7 to 14% of sweeps.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pandas as pd

from analysis.compare.claims import rule_of
from analysis.compare.ranking import seed_table
from analysis.design import contexts, levels, levels_of
from analysis.inference.contrasts import Contrast, contrast
from analysis.inference.intervals import of_differences
from analysis.inference.significance import holm
from analysis.sweep import Sweep

COLUMNS = (
    "factor_a", "factor_b", "level_a", "level_b", "n_arms", "n", "estimate", "low", "high", "values", "p",
    "p_holm", "note",
)  # fmt: skip
Cells = dict[tuple[str, str], dict[str, float]]  # (level of A, level of B) -> weights of arms


def interactions(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """A row per contrast of each pair of factors that is fully crossed among the arms; columns: COLUMNS.

    `estimate` is the effect of `level_b` at `level_a`, minus that at the reference of A, with a 95% interval
    `low`, `high`; `n` and `values` are those of `analysis.inference.contrasts`, by the sweep's
    `evidence.pairing`. `p` is of its t-test; `p_holm` is adjusted over all rows (Holm). If there is no test,
    `note` gives the reason; exploratory sweeps have no p. `metric`: default the test split's objective.
    """
    metric = metric or sweep.shown_metric
    limits = of_differences(of_differences(sweep.unit(metric).limits))
    values, is_claim = seed_table(sweep, metric), not sweep.is_exploratory
    pairing = rule_of(sweep).pairing
    rows: list[dict[str, Any]] = []
    for a, b in crossed(sweep):
        for (level_a, level_b), weights in interaction_weights(sweep, a, b).items():
            table = values[[*weights]]
            found = contrast(table, [*weights.values()], pairing)
            ends = found.interval.cut(limits)
            rows.append(
                {
                    "factor_a": a, "factor_b": b, "level_a": level_a, "level_b": level_b,
                    "n_arms": len(weights), "n": found.n, "estimate": found.value, "low": ends.low,
                    "high": ends.high, "values": found.values, "p": found.p if is_claim else math.nan,
                    "note": _note(table, found) or ("" if is_claim else "exploratory: without p"),
                }
            )  # fmt: skip
    result = pd.DataFrame(rows, columns=list(COLUMNS))
    result["p_holm"] = holm(result["p"].to_numpy(dtype=float), len(result))
    return result


def interaction_weights(sweep: Sweep, a: str, b: str) -> Cells:
    """Of each contrast of a crossed pair, by its two levels: the weight of each arm."""
    cells = _cells(sweep, a, b)
    (first_a, *others_a), (first_b, *others_b) = map(dict.fromkeys, zip(*cells, strict=True))
    found: Cells = {}
    for level_a, level_b in itertools.product(others_a, others_b):
        plus, minus = ((level_a, level_b), (first_a, first_b)), ((level_a, first_b), (first_a, level_b))
        found[level_a, level_b] = {arm: weight for pair in plus for arm, weight in cells[pair].items()}
        found[level_a, level_b] |= {arm: -weight for pair in minus for arm, weight in cells[pair].items()}
    return found


def _note(table: pd.DataFrame, found: Contrast) -> str:
    """Why there is no test; '' if there is one."""
    lost = [str(arm) for arm in table if table[arm].isna().all()]
    if lost:
        return f"{lost[0]} has no completed trial"
    if found.n < 2:
        return "fewer than two seeds"
    return "" if found.has_spread else "no spread over seeds"


def cell_means(sweep: Sweep, a: str, b: str, metric: str | None = None) -> pd.DataFrame:
    """`level_a`, `level_b`, `n`, `mean`, `low`, `high`, `values` of each cell of a crossed pair, for a plot.

    The mean over the cell's arms, and its 95% interval over seeds. Empty if the pair is not crossed.
    """
    metric = metric or sweep.shown_metric
    limits, values = sweep.unit(metric).limits, seed_table(sweep, metric)
    rows = []
    for pair, weights in _cells(sweep, a, b).items():
        found = contrast(values[[*weights]], [*weights.values()], rule_of(sweep).pairing)
        ends = found.interval.cut(limits)
        rows.append((*pair, found.n, found.value, ends.low, ends.high, found.values))
    return pd.DataFrame(rows, columns=["level_a", "level_b", "n", "mean", "low", "high", "values"])


def crossed(sweep: Sweep) -> list[tuple[str, str]]:
    """Pairs of factors for which every combination of levels is an arm, in at least one context."""
    return [pair for pair in itertools.combinations(sweep.factors, 2) if len(_arms(sweep, *pair))]


def _arms(sweep: Sweep, a: str, b: str) -> pd.DataFrame:
    """The arms of the contexts in which `a` and `b` are fully crossed, if any: columns a, b and context."""
    table = levels(sweep)
    where = contexts(table, [a, b])
    both = table[table[a].notna() & table[b].notna()]
    arms = pd.DataFrame({"a": both[a], "b": both[b], "context": where.loc[both.index]})
    wanted = arms["a"].nunique() * arms["b"].nunique()
    if min(arms["a"].nunique(), arms["b"].nunique()) < 2:
        return arms.iloc[:0]
    cells = arms.drop_duplicates().groupby("context").size()
    return arms[arms["context"].isin(cells.index[cells == wanted])]


def _cells(sweep: Sweep, a: str, b: str) -> Cells:
    """The cells of a crossed pair, the references first. Contexts count alike, as do a cell's arms in one."""
    arms, table = _arms(sweep, a, b), levels(sweep)
    size = arms.groupby(["a", "b", "context"])["a"].transform("size") * arms["context"].nunique()
    levels_a, levels_b = (
        [level for level in levels_of(table, factor, sweep.baseline) if level in set(arms[name])]
        for name, factor in (("a", a), ("b", b))
    )
    return {
        (at_a, at_b): {
            str(arm): 1 / size[arm] for arm in arms.index[(arms["a"] == at_a) & (arms["b"] == at_b)]
        }
        for at_a, at_b in itertools.product(levels_a, levels_b)
    }
