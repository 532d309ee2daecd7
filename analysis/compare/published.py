"""A sweep's arms beside published figures: does the order agree, and do the differences?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compare.comparisons import BASELINE
from analysis.compare.ranking import rank_arms
from analysis.inference.decision import BETTER, EQUIVALENT, WORSE
from analysis.sweep import AnalysisError, Sweep

COLUMNS = ["arm", "published"]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's over `n` arms, and its 95% interval (Bonett & Wright 2000; none below four arms and at 1).

    The interval is about arms like these. It leaves out that an arm's mean here and its published figure, of
    one seed or several, would be others with other seeds.
    """

    n: int
    value: float
    low: float
    high: float


def read_published(path: Path) -> dict[str, float]:
    """Arm -> its figure in the objective's unit, from a CSV with the columns `arm` and `published`.

    Raises AnalysisError if the file has other columns, an arm twice, or a figure that is no finite number.
    """
    try:
        table = pd.read_csv(path, dtype={"arm": str}, comment="#")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise AnalysisError(f"{path} is no CSV: {error}") from None
    if not set(COLUMNS) <= set(table):
        raise AnalysisError(
            f"{path} has the columns {', '.join(map(str, table))}: it needs {' and '.join(COLUMNS)}"
        )
    if table["arm"].duplicated().any():
        raise AnalysisError(f"{path} has {table['arm'][table['arm'].duplicated()].iloc[0]} twice")
    figures = pd.to_numeric(table["published"], errors="coerce")
    if not np.isfinite(figures).all():
        arm = table["arm"][~np.isfinite(figures)].iloc[0]
        raise AnalysisError(f"{path}: the figure of {arm} is no finite number")
    return dict(zip(table["arm"], figures.astype(float), strict=True))


def beside_published(sweep: Sweep, published: Mapping[str, float]) -> pd.DataFrame:
    """A row per arm that is in both and has a completed trial, in the published order.

    `published`, `mean` and `n`; `against`, the arm of the sweep's own comparison, with `published_diff` and
    `diff` from it, `diff_low`, `diff_high` and `verdict`; the ranks by either, 1 the best; and `agrees`:
    "yes" or "no" where the verdict says on which side the arm is, "equivalent here" where it says on none,
    "" for the baseline, else "open", also where the other arm was not published.
    Raises AnalysisError if fewer than two arms are left, or the baseline is not among them.
    """
    ranked = rank_arms(sweep)
    prefix = "test_" if sweep.test_metric else ""
    names = ["mean", "n", "against", "diff", "diff_low", "diff_high", "verdict"]
    table = ranked[["arm", *(prefix + name for name in names)]].set_axis(["arm", *names], axis=1)
    table = table[table["arm"].isin(list(published)) & table["mean"].notna()]
    if len(table) < 2 or sweep.baseline not in set(table["arm"]):
        raise AnalysisError(
            f"{sweep.name} has the arms {', '.join(sweep.arms)}; published are {', '.join(published)}: at "
            f"least two must be in both with a completed trial, the baseline {sweep.baseline} among them"
        )
    table.insert(1, "published", table["arm"].map(dict(published)))
    table["published_diff"] = table["published"] - table["against"].map(dict(published))
    for column in ("published", "mean"):
        table[f"{column}_rank"] = table[column].rank(ascending=not sweep.maximise)
    sign = 1 if sweep.maximise else -1
    table["agrees"] = [
        _agrees(sign * gap, verdict)
        for gap, verdict in zip(table["published_diff"], table["verdict"], strict=True)
    ]
    return table.sort_values("published_rank", kind="stable").reset_index(drop=True)


def _agrees(published_gain: float, verdict: str) -> str:
    if verdict == BASELINE:
        return ""
    if verdict not in (BETTER, WORSE) or math.isnan(published_gain):
        return "equivalent here" if verdict == EQUIVALENT else "open"
    return "yes" if (published_gain > 0) == (verdict == BETTER) else "no"


def rank_correlation(table: pd.DataFrame) -> RankCorrelation:
    """Spearman's between the published figures and the means of `beside_published`."""
    n = len(table)
    value = float(stats.spearmanr(table["published"], table["mean"]).statistic)
    if n < 4 or not abs(value) < 1 - 1e-9:  # at 1 the formula's interval has no width
        return RankCorrelation(n, value, math.nan, math.nan)
    middle, half = math.atanh(value), stats.norm.ppf(0.975) * math.sqrt((1 + value**2 / 2) / (n - 3))
    return RankCorrelation(n, value, math.tanh(middle - half), math.tanh(middle + half))
