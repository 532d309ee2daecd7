"""TRM's test metrics: accuracy by supervision step and by rating, and the calibration of the halting head.

Completed trials report them at their end, with the weights that were best on val. A trial gives one value for
its seed. Intervals are those of analysis.inference.intervals over the seeds of the trials that count
(`analysis.compare.ranking.counted_trials`), clipped to the metric's limits; below MIN_FOR_INTERVAL seeds the
ends are NaN, and `values` has each seed's. An interval covers initial weights, order of data and halting. It
does not cover the data and the choice of puzzles, which are the same for all trials. A metric that no counted
trial reported has no rows.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd

from analysis.compare.ranking import seed_table
from analysis.inference.intervals import MIN_FOR_INTERVAL, mean_interval
from analysis.sweep import Sweep

_AT_STEP = re.compile(r"test/exact_accuracy_at_(\d+)")
_OF_RATING = re.compile(r"test/exact_accuracy_rating_((\d+)(?:_(\d+|up))?)")
_HALTING = re.compile(r"test/(q_auroc|q_ece|solved_then_lost(?:_at_\d+)?)")
_INTERVAL = ["n", "mean", "low", "high", "values"]


def depth_curve(sweep: Sweep) -> pd.DataFrame:
    """Exact accuracy after each number of supervision steps: arm, supervision_steps, n, mean, low, high,
    values.

    In the order of arms and steps; n is the number of seeds. Arms may have different steps.
    """
    found = {name: int(match[1]) for name, match in _columns(sweep, _AT_STEP)}
    rows = [
        {"arm": arm, "supervision_steps": found[name], **interval}
        for name in sorted(found, key=lambda name: found[name])
        for arm, interval in _by_arm(sweep, name)
    ]
    return _in_order(sweep, pd.DataFrame(rows, columns=["arm", "supervision_steps", *_INTERVAL]))


def by_rating(sweep: Sweep) -> pd.DataFrame:
    """Exact accuracy by the puzzles' rating: arm, rating ("0", "1–9", "100+"), rows, n, mean, low, high,
    values.

    In the order of arms and ratings. `rows` is the number of test puzzles with such a rating.
    """
    rows = []
    for name, match in sorted(_columns(sweep, _OF_RATING), key=lambda found: int(found[1][2])):
        bucket, low, high = match.groups()
        rating = low if high is None else f"{low}+" if high == "up" else f"{low}–{high}"
        counts = seed_table(sweep, f"test/rows_rating_{bucket}").median()
        rows += [
            {"arm": arm, "rating": rating, "rows": int(counts[arm]), **interval}
            for arm, interval in _by_arm(sweep, name)
        ]
    return _in_order(sweep, pd.DataFrame(rows, columns=["arm", "rating", "rows", *_INTERVAL]))


def halting(sweep: Sweep) -> pd.DataFrame:
    """A row per arm that reported any of the metrics: arm, for each metric X: X (the mean), X_low, X_high,
    X_n and X_values.

    The metrics are q_auroc and q_ece (how well the halting head predicts a right answer), solved_then_lost,
    and solved_then_lost_at_T for each reported T.
    """
    by_arm: dict[str, dict[str, Any]] = {}
    names = ["q_auroc", "q_ece", "solved_then_lost"]
    for name, match in _columns(sweep, _HALTING):
        names += [match[1]] if match[1] not in names else []
        for arm, interval in _by_arm(sweep, name):
            figures = {f"{match[1]}_{end}": interval[end] for end in ("low", "high", "n", "values")}
            by_arm.setdefault(arm, {}).update({match[1]: interval["mean"], **figures})
    columns = [name + end for name in names for end in ("", "_low", "_high", "_n", "_values")]
    rows = [{"arm": arm, **figures} for arm, figures in by_arm.items()]
    return _in_order(sweep, pd.DataFrame(rows, columns=["arm", *columns]))


def _columns(sweep: Sweep, pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    matches = ((str(name), pattern.fullmatch(str(name))) for name in sweep.trials)
    return [(name, match) for name, match in matches if match]


def _by_arm(sweep: Sweep, metric: str) -> list[tuple[str, dict[str, Any]]]:
    """The metric's interval over seeds, for every arm with a value."""
    table = seed_table(sweep, metric)
    limits = sweep.unit(metric).limits
    rows = []
    for arm in sweep.arms:
        found, values = mean_interval(table[arm]).cut(limits), tuple(table[arm].dropna())
        low, high = (found.low, found.high) if found.n >= MIN_FOR_INTERVAL else (math.nan, math.nan)
        row = {"n": found.n, "mean": found.mean, "low": low, "high": high, "values": values}
        rows += [(arm, row)] if found.n else []
    return rows


def _in_order(sweep: Sweep, rows: pd.DataFrame) -> pd.DataFrame:
    place = {arm: i for i, arm in enumerate(sweep.arms)}
    return rows.sort_values("arm", key=lambda arms: arms.map(place), kind="stable", ignore_index=True)
