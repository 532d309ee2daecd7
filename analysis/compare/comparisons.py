"""Arms against the baseline, and a verdict on each: better, worse, equivalent, not settled, too few seeds.

Tests are made both paired, over the seeds that two arms share, and unpaired; the search space's `evidence`
says which one decides (`test`, `pairing`), and the `margin` within which a difference does not matter. The
difference tests and the equivalence tests are two families, each with Holm's procedure over all planned
comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from analysis.inference.intervals import ALPHA, Limits, difference_interval, mean_interval, of_differences
from analysis.inference.significance import (
    NAMES,
    Pairing,
    Test,
    benjamini_hochberg,
    holm,
    paired_equivalence_p,
    paired_t_p,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    two_sample_p,
    unpaired_equivalence_p,
    welch_p,
)
from analysis.sweep import AnalysisError, Sweep

BETTER, WORSE, EQUIVALENT = "better", "worse", "equivalent"
NOT_SETTLED, TOO_FEW = "not settled", "too few seeds"
BASELINE, NOT_COMPARED, EXPLORATORY = "baseline", "not compared", "exploratory"
P_VALUES = (
    "p", "p_holm", "q", "p_equivalent", "p_equivalent_holm",
    "paired_t_p", "paired_permutation_p", "unpaired_t_p", "unpaired_permutation_p",
)  # fmt: skip
COMPARED = (
    "arm", "n", "mean", "low", "high", "interval", "n_pairs", "diff", "diff_low", "diff_high",
    "diff_interval", "p", "p_holm", "q", "too_small", "p_equivalent", "p_equivalent_holm", "verdict",
    "decided_by", "correlation", "paired_diff", "paired_low", "paired_high", "paired_t_p",
    "paired_permutation_p", "unpaired_diff", "unpaired_low", "unpaired_high", "unpaired_t_p",
    "unpaired_permutation_p",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """How a comparison is decided, from the search space's `evidence`; `margin` in the metric's units."""

    test: Test = "t"
    pairing: Pairing = "paired"
    margin: float | None = None

    @classmethod
    def of(cls, sweep: Sweep) -> Rule:
        """Raises AnalysisError for an unknown test or pairing, or an invalid margin."""
        given = sweep.space.get("evidence") or {}
        for key, kind in (("test", Test), ("pairing", Pairing)):
            if given.get(key) not in (None, *get_args(kind)):
                raise AnalysisError(
                    f"{sweep.name}: evidence.{key} is {given[key]!r}; it may be {' or '.join(get_args(kind))}"
                )
        margin = given.get("margin")
        if margin is not None and not float(margin) > 0:
            raise AnalysisError(
                f"{sweep.name}: evidence.margin is {margin}; it is the greatest difference that does not "
                "matter, in the metric's own units: give a number above 0, or leave it out"
            )
        named = {key: given[key] for key in ("test", "pairing") if given.get(key)}
        return cls(**named, margin=None if margin is None else float(margin))

    @property
    def name(self) -> str:
        """The name of the deciding test, such as "sign-flip test"."""
        return NAMES[self.test, self.pairing]

    def seeds_needed(self, family: int) -> int:
        """The fewest seeds per arm with which one of this many comparisons can be significant."""
        return seeds_needed(family, self.test, self.pairing)

    def smallest_p(self, n_pairs: int, n: int, n_baseline: int) -> float:
        """The smallest p that the deciding test can give."""
        if self.pairing == "paired":
            return smallest_p(n_pairs, self.test)
        return smallest_p(n, self.test, self.pairing, n_baseline)


def comparisons(
    table: pd.DataFrame,
    baseline: str,
    rule: Rule,
    *,
    maximise: bool = True,
    family: int | None = None,
    limits: Limits = (-math.inf, math.inf),
) -> pd.DataFrame:
    """A row per column of `table` (a row per seed, NaN if a value does not count); columns: COMPARED.

    `n`, `mean`, `low`, `high` and `interval` (t or BCa) describe the arm itself; `paired_...` its differences
    from the baseline over the `n_pairs` seeds that both have; `unpaired_...` the difference of the two means.
    `diff`, `diff_low`, `diff_high`, `diff_interval` and `p` are those that `rule` selects; `p_holm` and
    `q` are adjusted over `family` comparisons (default: all columns except the baseline).
    `p_equivalent`: TOST, small if the difference is within the margin. `too_small`: the result could not
    be significant even if all seeds of every arm agreed. `correlation`: Pearson's, over the shared seeds.
    Intervals are clipped to the metric's `limits`, and to those of its differences.
    """
    values = {str(arm): table[arm].to_numpy(dtype=float) for arm in table}
    family = len(values) - 1 if family is None else family
    n_baseline = int(np.isfinite(values[baseline]).sum())
    rows: list[dict[str, Any]] = []
    for arm, mine in values.items():
        own = mean_interval(mine)
        row: dict[str, Any] = dict.fromkeys(COMPARED, math.nan) | {"n_pairs": 0, "diff_interval": ""}
        row |= {"arm": arm, "n": own.n, "mean": own.mean, "low": own.low, "high": own.high}
        row |= {"interval": own.method, "decided_by": rule.name, "least": math.nan}
        if arm != baseline:
            row |= _difference(mine, values[baseline], rule)
            row["least"] = rule.smallest_p(row["n_pairs"], own.n, n_baseline)
        rows.append(_cut(row, limits))

    def adjusted(name: str, adjust: Callable[..., np.ndarray] = holm) -> list[float]:
        return [float(p) for p in adjust([row[name] for row in rows], family)]

    for row, floor in zip(rows, adjusted("least"), strict=True):
        untestable = math.isnan(floor) and math.isfinite(row["diff"])
        row["too_small"] = floor > ALPHA or untestable
    for name, found in (
        ("p_holm", adjusted("p")),
        ("q", adjusted("p", benjamini_hochberg)),
        ("p_equivalent_holm", adjusted("p_equivalent")),
    ):
        for row, p in zip(rows, found, strict=True):
            row[name] = p
    for row in rows:
        row["verdict"] = _verdict(row, baseline, maximise)
    return pd.DataFrame(rows, columns=list(COMPARED)).set_index("arm", drop=False)


def _cut(row: dict[str, Any], limits: Limits) -> dict[str, Any]:
    for prefix in ("", "diff_", "paired_", "unpaired_"):
        bounds = of_differences(limits) if prefix else limits
        for end in ("low", "high"):
            row[prefix + end] = float(np.clip(row[prefix + end], *bounds))
    return row


def _difference(a: np.ndarray, b: np.ndarray, rule: Rule) -> dict[str, Any]:
    """The columns of one comparison that do not depend on the other comparisons."""
    both = np.isfinite(a) & np.isfinite(b)
    gaps = a[both] - b[both]
    paired, unpaired = mean_interval(gaps), difference_interval(a, b)
    row: dict[str, Any] = {"n_pairs": paired.n, "correlation": correlation(a[both], b[both])}
    for name, gap in (("paired", paired), ("unpaired", unpaired)):
        row |= {f"{name}_diff": gap.mean, f"{name}_low": gap.low, f"{name}_high": gap.high}
    row |= {"paired_t_p": paired_t_p(gaps), "paired_permutation_p": sign_flip_p(gaps)}
    row |= {"unpaired_t_p": welch_p(a, b), "unpaired_permutation_p": two_sample_p(a, b)}
    row |= {
        end: row[f"{rule.pairing}_{end.removeprefix('diff_')}"] for end in ("diff", "diff_low", "diff_high")
    }
    row["diff_interval"] = paired.method if rule.pairing == "paired" else unpaired.method
    row["p"] = row[f"{rule.pairing}_{rule.test}_p"]
    if rule.margin is not None and rule.pairing == "paired":
        row["p_equivalent"] = paired_equivalence_p(gaps, rule.margin)
    elif rule.margin is not None:
        row["p_equivalent"] = unpaired_equivalence_p(a, b, rule.margin)
    return row


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; NaN below three pairs, or if one of the two has no variance."""
    if len(a) < 3 or not a.std() or not b.std():
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _verdict(row: dict[str, Any], baseline: str, maximise: bool) -> str:
    """Equivalence has priority: within the margin even a significant difference does not matter."""
    if row["arm"] == baseline:
        return BASELINE
    if not math.isfinite(row["diff"]):
        return NOT_COMPARED
    if row["p_equivalent_holm"] <= ALPHA:
        return EQUIVALENT
    if row["p_holm"] <= ALPHA:
        return BETTER if (row["diff"] > 0) == maximise else WORSE
    return TOO_FEW if row["too_small"] else NOT_SETTLED
