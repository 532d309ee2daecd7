"""Does pairing over seeds buy anything? Runs of one seed share data order and split, yet a chaotic mixer may
forget them within a few steps: then pairing halves the degrees of freedom and narrows nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.intervals import ALPHA
from analysis.load import Sweep, records
from analysis.stats import claim_of, compare
from analysis.units import Unit, join, name_of, p_words, unit_of


def correlations(sweep: Sweep, metric: str) -> pd.DataFrame:
    """A row an arm but the baseline, over the seeds that it shares with the baseline.

    `arm`, `n_pairs`, `correlation` (Pearson's, NaN below three) with its 95% interval `low`, `high` (Fisher's
    z, from four pairs on), `paired_width` and `unpaired_width` of the two 95% intervals of the difference,
    and `helps`: the paired one is narrower.
    """
    table = compare(sweep, metric)
    table = table[(table["arm"] != sweep.baseline) & (table["n_pairs"] > 0)]
    result = table[["arm", "n_pairs", "correlation"]].reset_index(drop=True)
    ends = [_fisher(row.correlation, row.n_pairs) for row in records(result)]
    result["low"], result["high"] = [low for low, _ in ends], [high for _, high in ends]
    for name in ("paired", "unpaired"):
        result[f"{name}_width"] = (table[f"{name}_high"] - table[f"{name}_low"]).to_numpy()
    result["helps"] = result["paired_width"] < result["unpaired_width"]
    return result


def _fisher(correlation: float, n: int) -> tuple[float, float]:
    if n < 4 or not abs(correlation) < 1:
        return math.nan, math.nan
    half = stats.norm.ppf(1 - ALPHA / 2) / math.sqrt(n - 3)
    return float(np.tanh(np.arctanh(correlation) - half)), float(np.tanh(np.arctanh(correlation) + half))


def pairing_text(sweep: Sweep, metric: str) -> str:
    """What the seeds have in common, and where pairing buys nothing the unpaired result; '' where unknown."""
    known = correlations(sweep, metric).dropna(subset=["correlation", "paired_width"])
    if known.empty:
        return ""
    least, most = known["correlation"].min(), known["correlation"].max()
    span = " to ".join(f"{value:.2f}".replace("-", "−") for value in dict.fromkeys([least, most]))
    text = f"Over shared seeds {name_of(metric)} correlates by {span} with that of {sweep.baseline}."
    idle = compare(sweep, metric).loc[list(known.loc[~known["helps"], "arm"])]
    if idle.empty:
        return text
    unit, claims = unit_of(metric), claim_of(sweep) == "confirmatory"
    unpaired = join([_unpaired(row, unit, claims) for row in records(idle)])
    return (
        f"{text} Pairing buys nothing against {join(list(idle['arm']))}, where the paired interval is no "
        f"narrower than the unpaired one; unpaired: {unpaired}."
    )


def _unpaired(row: Any, unit: Unit, claims: bool) -> str:
    ends = (row.unpaired_diff, row.unpaired_low, row.unpaired_high)
    middle, low, high = (unit.text(value, sign=True) for value in ends)
    words = f"{row.arm} {middle} [{low}, {high}] {unit.difference}".rstrip()
    if not claims:
        return words
    return f"{words} ({p_words(row.unpaired_permutation_p)} by permutation, {p_words(row.unpaired_t_p)} by t)"
