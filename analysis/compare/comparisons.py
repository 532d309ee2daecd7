"""Arms against the baseline in a table of values, and a verdict on each: better, worse, equivalent, not
settled, too few seeds.

The rule says which test decides; both tests are made paired, over the seeds that arms share, and unpaired.
The verdicts of a sweep with looks are those of its journal: see `analysis.compare.claims`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.inference.decision import (
    BETTER,
    EQUIVALENT,
    NOT_SETTLED,
    TOO_FEW,
    WORSE,
    Comparison,
    decide,
)
from analysis.inference.intervals import ALPHA, MIN_FOR_INTERVAL, Limits, mean_interval
from analysis.inference.rule import Rule
from analysis.inference.samples import Pair, Samples
from analysis.inference.sequential import Schedule
from analysis.inference.significance import Pairing, benjamini_hochberg

__all__ = ["BETTER", "EQUIVALENT", "NOT_SETTLED", "TOO_FEW", "WORSE"]

BASELINE, NOT_COMPARED, EXPLORATORY, NOT_ASKED = "baseline", "not compared", "exploratory", "not asked"
P_VALUES = (
    "p", "p_adjusted", "q", "p_equivalent", "p_equivalent_adjusted",
    "paired_t_p", "paired_permutation_p", "unpaired_t_p", "unpaired_permutation_p",
)  # fmt: skip
COMPARED = (
    "arm", "n", "mean", "low", "high", "interval", "n_pairs", "diff", "diff_low", "diff_high",
    "p", "p_adjusted", "q", "p_equivalent", "p_equivalent_adjusted", "equivalent_low", "equivalent_high",
    "verdict", "note", "look", "decided_by", "correlation", "paired_diff", "paired_low", "paired_high",
    "paired_t_p", "paired_permutation_p", "unpaired_diff", "unpaired_low", "unpaired_high", "unpaired_t_p",
    "unpaired_permutation_p",
)  # fmt: skip


def comparisons(
    table: pd.DataFrame,
    baseline: str,
    rule: Rule,
    *,
    maximise: bool = True,
    family: int | None = None,
    limits: Limits = (-math.inf, math.inf),
    lost: Mapping[str, set[int]] | None = None,
    level: float = ALPHA,
) -> pd.DataFrame:
    """A row per column of `table` (a row per seed, NaN if a value does not count); columns: COMPARED.

    `n`, `mean`, `low`, `high` and `interval` (t or BCa; none below four seeds) describe the arm itself;
    `paired_...` its differences from the baseline over the `n_pairs` seeds that both have; `unpaired_...` the
    difference of the two means. `diff`, `diff_low`, `diff_high` and `p` are those that `rule` selects, the
    interval at the level at which the comparison was decided; `p_adjusted` and `q` are adjusted over `family`
    comparisons (default: all columns except the baseline), and so is `p_equivalent_adjusted`, of equivalence
    within the margin, whose interval is `equivalent_low` to `equivalent_high`. `lost` are the seeds of an arm
    that diverged or failed. `correlation`: Pearson's, over the shared seeds. Intervals are cut to the
    metric's `limits`, and to those of its differences.
    """
    values = {str(arm): of_seeds(table[arm], (lost or {}).get(str(arm), set())) for arm in table}
    arms = [arm for arm in values if arm != baseline]
    family = len(arms) if family is None else family
    pairs = {(arm, baseline): Pair(values[arm], values[baseline], rule, maximise, limits) for arm in arms}
    planned = [Comparison(arm, baseline) for arm in arms]
    planned += [
        Comparison("", str(place)) for place in range(family - len(arms))
    ]  # made elsewhere, or missing
    decided = {row.arm: row for row in decide(planned, pairs, rule, 0, Schedule((1,)), level)}
    rows = []
    for arm, mine in values.items():
        own = mean_interval(np.array(list(mine.values()))).cut(limits)
        row: dict[str, Any] = dict.fromkeys(COMPARED, math.nan) | {"n_pairs": 0, "look": 0, "note": ""}
        row |= {"arm": arm, "n": own.n, "mean": own.mean, "interval": "", "decided_by": rule.name}
        if own.n >= MIN_FOR_INTERVAL:
            row |= {"low": own.low, "high": own.high, "interval": own.method}
        row["verdict"] = BASELINE
        if arm != baseline:
            row |= _both_tests(pairs[arm, baseline]) | columns_of(decided[arm])
        rows.append(row)
    for row, q in zip(rows, benjamini_hochberg([row["p"] for row in rows], family), strict=True):
        row["q"] = float(q)
    return pd.DataFrame(rows, columns=list(COMPARED)).set_index("arm", drop=False)


def of_seeds(column: pd.Series, lost: set[int]) -> dict[int, float]:
    """Each seed's value; NaN for those that were lost. Seeds without a value that counts are left out."""
    values = zip(column.index, column.to_numpy(dtype=float), strict=True)
    found = {int(seed): float(value) for seed, value in values if math.isfinite(value)}
    return found | dict.fromkeys(sorted(lost - set(found)), math.nan)


def columns_of(row: Comparison) -> dict[str, Any]:
    """A decided comparison in the names of the table."""
    low, high = (row.low, row.high) if row.verdict == EQUIVALENT else (math.nan, math.nan)
    return {
        "diff": row.diff, "diff_low": row.low, "diff_high": row.high, "p": row.p,
        "p_adjusted": row.p_adjusted,
        "p_equivalent": row.p_equivalent, "p_equivalent_adjusted": row.p_equivalent_adjusted,
        "equivalent_low": low, "equivalent_high": high, "look": row.look, "note": row.note,
        "verdict": row.verdict if math.isfinite(row.diff) else NOT_COMPARED,
    }  # fmt: skip


def _both_tests(pair: Pair) -> dict[str, Any]:
    """What the tests say of the values that are there, each at 5%."""
    a, b = ({seed: value for seed, value in arm.items() if math.isfinite(value)} for arm in (pair.a, pair.b))
    both = [seed for seed in a if seed in b]
    samples: dict[Pairing, tuple[np.ndarray, np.ndarray]] = {
        "paired": (np.array([a[seed] for seed in both]), np.array([b[seed] for seed in both])),
        "unpaired": (np.array(list(a.values())), np.array(list(b.values()))),
    }
    row: dict[str, Any] = {"n_pairs": len(both), "correlation": correlation(*samples["paired"])}
    for pairing, (mine, other) in samples.items():
        t, exact = Samples(mine, other, "t", pairing), Samples(mine, other, "permutation", pairing)
        low, high = pair.cut(t.interval(ALPHA))
        row |= {f"{pairing}_diff": t.diff, f"{pairing}_low": low, f"{pairing}_high": high}
        row |= {f"{pairing}_t_p": t.p, f"{pairing}_permutation_p": exact.p}
    return row


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; NaN below three pairs, or if one of the two has no variance."""
    if len(a) < 3 or not a.std() or not b.std():
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
