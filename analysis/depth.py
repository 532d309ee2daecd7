"""Beyond one number: accuracy by supervision steps and by rating, and whether q knows what is right.

Read from what a trial reports at its end. The seed is the unit; only trials that count enter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from analysis.load import Sweep
from analysis.stats import seed_table, t_interval

_AT = re.compile(r"test/exact_accuracy_at_(\d+)")
_RATING = re.compile(r"test/exact_accuracy_rating_(\d+(?:_\w+)?)")
MEASURES = {"q_auroc": "test/q_auroc", "q_ece": "test/q_ece", "solved_then_lost": "test/solved_then_lost"}


def depth_curve(sweep: Sweep) -> pd.DataFrame:
    """Columns arm, supervision_steps, n, mean, low, high: exact accuracy after so many steps, and its 95%
    interval over n seeds. Empty where no trial reported it."""
    found = {int(hit[1]): hit[0] for name in sweep.trials if (hit := _AT.fullmatch(str(name)))}
    return _means(sweep, "supervision_steps", sorted(found.items()))


def by_rating(sweep: Sweep) -> pd.DataFrame:
    """Columns arm, bucket, n, mean, low, high: exact accuracy on puzzles of a rating, the easiest first."""
    found = {hit[1]: hit[0] for name in sweep.trials if (hit := _RATING.fullmatch(str(name)))}
    buckets = sorted(found.items(), key=lambda pair: int(pair[0].partition("_")[0]))
    return _means(sweep, "bucket", [(_range(bucket), metric) for bucket, metric in buckets])


def halting(sweep: Sweep) -> pd.DataFrame:
    """Columns arm, measure, n, mean, low, high. Measures: AUROC and ECE of q as a prediction that a row is
    solved, and the share of rows that were solved after some step and are not at the end."""
    return _means(sweep, "measure", [pair for pair in MEASURES.items() if pair[1] in sweep.trials])


def _means(sweep: Sweep, key: str, metrics: Iterable[tuple[object, str]]) -> pd.DataFrame:
    rows = []
    for value, metric in metrics:
        table = seed_table(sweep, metric)
        for arm in sweep.arms:
            own = t_interval(table[arm])
            rows.append((arm, value, own.n, own.mean, own.low, own.high))
    found = pd.DataFrame(rows, columns=["arm", key, "n", "mean", "low", "high"])
    return found[found["n"] > 0].reset_index(drop=True)


def _range(bucket: str) -> str:
    """`1_9` -> "1–9"; `10_up` -> "10+"."""
    low, _, high = bucket.partition("_")
    return f"{low}+" if high == "up" else f"{low}–{high}" if high else low
