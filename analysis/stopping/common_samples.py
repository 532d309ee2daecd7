"""Comparison of arms with stopped trials, at a number of samples before the first stop; of training FLOPs, if
`match` gives the arms equal ones.

The last value of a stopped trial is not its final one, and the trials that continued were selected for being
ahead. At the largest number of samples that every trial reached, no trial has been selected yet: stopped
trials count up to that point (they are censored there) and are never shown as finished.

Draws differ by their tuned values: they are not replicates of an arm, and their spread is what tuning does.
So the values themselves are described, without an interval and without a test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.sweep import Sweep

TPE_RANDOM = 10  # the first draws of Optuna's TPE are random; later ones depend on results
COLUMNS = ("arm", "at", "n", "n_stopped", "median", "least", "most", "shared", "ahead", "diff")


@dataclass(frozen=True)
class Pool:
    """Trials, none selected on its own result, and the `value` of each after `at` samples or training FLOPs.

    `at` is NaN if all ran to their end; the values are then the final ones.
    """

    trials: pd.DataFrame
    at: float


def unselected(sweep: Sweep, metric: str | None = None) -> Pool:
    """The search's trials, or those of a fixed grid, with their `value` (default: of the objective).

    Final values if none was stopped, else those at the largest common number of samples (or FLOPs). Leaves
    out trials that diverged, failed or have not ended, and TPE's draws after the first ten, which depend on
    results.
    """
    metric = metric or sweep.metric
    phase = "search" if (sweep.trials["phase"] == "search").any() else "evidence"
    rows = sweep.trials[
        (sweep.trials["phase"] == phase) & sweep.trials["status"].isin(["completed", "pruned"])
    ]
    if sweep.space.get("tune") and phase == "search":
        search = sweep.space.get("search") or {}
        rows = rows[rows["seed"].isin(search.get("seeds") or [0])]  # earlier evidence counts as search
        rows = rows[rows["draw"] < TPE_RANDOM] if search.get("algorithm") == "tpe" else rows
    if not (rows["status"] == "pruned").any() and not sweep.audited[rows.index].any():
        values = rows[metric] if metric in rows else pd.Series(math.nan, index=rows.index)
        finals = rows.assign(value=values.where(np.isfinite(values)))
        return Pool(finals.dropna(subset=["value"]), math.nan)
    return _cut(sweep, rows, metric)


def _cut(sweep: Sweep, rows: pd.DataFrame, metric: str) -> Pool:
    """Each trial's last value at or before the largest number of samples (or FLOPs) that all reached."""
    over = sweep.compared_over
    if metric not in sweep.history:
        return Pool(rows.iloc[:0].assign(value=math.nan), math.nan)
    history = sweep.history[sweep.history["trial_id"].isin(rows["trial_id"])]
    history = history[np.isfinite(history[metric]) & history[over].notna()].sort_values(over)
    common = float(history.groupby("trial_id")[over].max().min())
    # Steps are whole: reports at one share of the training FLOPs are not at quite the same number of them.
    slack = float((sweep.space.get("match") or {}).get("tolerance", 0)) if over == "flops" else 0.0
    values = history[history[over] <= common * (1 + slack)].groupby("trial_id")[metric].last()
    return Pool(rows.assign(value=rows["trial_id"].map(values)).dropna(subset=["value"]), common)


def at_common_samples(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """A row per arm, the best median first: `metric` of its unselected trials after `at` samples or FLOPs.

    A unit is a draw, by the mean over its seeds; where nothing is tuned, a seed. `median`, `least` and `most`
    are over the arm's `n` units; `n_stopped` of its trials were stopped later. Arms share their draws: of the
    `shared` ones the arm is better than the baseline in `ahead`, and `diff` is the median difference.
    `metric`: default the objective. Columns: COLUMNS.
    """
    pool = unselected(sweep, metric)
    table = pool.trials.pivot_table(index=replicate_of(sweep), columns="arm", values="value")
    table = table.reindex(columns=sweep.arms).astype(float)
    stopped = pool.trials[pool.trials["status"] == "pruned"].groupby("arm").size()
    gaps = table.sub(table[sweep.baseline], axis=0).drop(columns=sweep.baseline)
    found = pd.DataFrame(  # by arm: where a series lacks one, pandas puts the rows in another order
        {
            "at": pool.at, "n": table.count(),
            "n_stopped": stopped.reindex(table.columns, fill_value=0), "median": table.median(),
            "least": table.min(), "most": table.max(), "shared": gaps.count(),
            "ahead": ((gaps if sweep.maximise else -gaps) > 0).sum(), "diff": gaps.median(),
        }
    ).loc[list(table.columns)].rename_axis("arm").reset_index()  # fmt: skip
    counts = ["shared", "ahead"]
    found[counts] = found[counts].fillna(0).astype(int)
    found = found.sort_values("median", ascending=not sweep.maximise, kind="stable")
    return found[list(COLUMNS)].reset_index(drop=True)


def replicate_of(sweep: Sweep) -> str:
    """What an arm's values differ by: "draw" if something is tuned, else "seed"."""
    return "draw" if sweep.space.get("tune") else "seed"
