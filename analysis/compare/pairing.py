"""Whether pairing over seeds narrows the intervals.

Runs of one seed share data order and split, but if training is chaotic their results may be uncorrelated.
Pairing then halves the degrees of freedom without a narrower interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare.ranking import compare
from analysis.format import few, name_of
from analysis.inference.intervals import ALPHA
from analysis.sweep import Sweep, records


def correlations(sweep: Sweep, metric: str) -> pd.DataFrame:
    """A row per arm except the baseline, over the seeds that it shares with the baseline.

    `arm`, `n_pairs`, `correlation` (Pearson's, NaN below three) with its 95% interval `low`, `high` (Fisher's
    z, from four pairs), `paired_width` and `unpaired_width` of the two 95% intervals of the difference,
    and `helps`: whether the paired one is narrower.
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


def idle_arms(sweep: Sweep, metric: str) -> list[str]:
    """Arms for which pairing does not help: the paired interval is no narrower than the unpaired one."""
    known = correlations(sweep, metric).dropna(subset=["correlation", "paired_width"])
    return list(known.loc[~known["helps"], "arm"])


def pairing_text(sweep: Sweep, metric: str) -> str:
    """Text: what seeds share, and the arms for which pairing does not help; '' if it is not known."""
    known = correlations(sweep, metric).dropna(subset=["correlation", "paired_width"])
    if known.empty:
        return ""
    least, most = known["correlation"].min(), known["correlation"].max()
    span = " to ".join(dict.fromkeys(correlation_text(value) for value in (least, most)))
    text = f"Over shared seeds the correlation of {name_of(metric)} with that of {sweep.baseline} is {span}."
    idle = idle_arms(sweep, metric)
    if not idle:
        return text
    return (
        f"{text} Pairing buys nothing against {few(idle)}: the paired interval is no narrower than the "
        "unpaired one."
    )


def correlation_text(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else "–"
