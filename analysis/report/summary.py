"""The ranking as a file and as a few lines of text."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from analysis.compare.ranking import rank_arms, seed_table
from analysis.format import aligned, name_of, si, title_of
from analysis.report.table import own_interval
from analysis.sweep import Sweep, load_sweep

MOST_ARMS = 50  # of a ranking in a terminal


def write_summary(folder: Path | str) -> Path:
    """Write `folder`/summary.csv: a row an arm, its levels, then the columns of `rank_arms`.

    Raises AnalysisError where the results cannot be read.
    """
    folder = Path(folder)
    sweep = load_sweep(folder)
    target, staging = folder / "summary.csv", folder / f".summary.csv.{os.getpid()}"
    _with_levels(sweep, rank_arms(sweep)).to_csv(staging, index=False)
    staging.replace(target)
    return target


def _with_levels(sweep: Sweep, ranked: pd.DataFrame) -> pd.DataFrame:
    arms = sweep.resolved.get("arms") or {}
    levels = pd.DataFrame([(arms.get(arm) or {}).get("levels", {}) for arm in ranked["arm"]])
    levels = levels.reindex(columns=sweep.factors)
    return pd.concat([ranked[["arm"]], levels, ranked.drop(columns="arm")], axis=1)


def ranking_text(folder: Path | str) -> str:
    """The ranking for a terminal: mean and interval of the objective (below four seeds their values), and
    what became of the trials. Of more than MOST_ARMS arms, the first."""
    sweep = load_sweep(folder)
    unit, seeds = sweep.unit(sweep.metric), seed_table(sweep, sweep.metric)
    rows = []
    ranked = rank_arms(sweep)
    for _, row in ranked.head(MOST_ARMS).iterrows():
        interval = own_interval(row, seeds[row["arm"]], unit)
        outcomes = {"n": "completed", "n_pruned": "pruned", "n_diverged": "diverged", "n_failed": "failed"}
        outcomes |= {"n_open": "unfinished"}
        counts = ", ".join(f"{row[key]} {word}" for key, word in outcomes.items() if row[key])
        rows.append((row["arm"], unit.text(row["mean"]), interval, si(row["num_params"]), counts))
    heads = ("arm", title_of(sweep.metric, unit), "95% interval", "parameters", "trials")
    lines = aligned([heads, *rows])
    note = "exploratory: these trials carry no claims" if sweep.is_exploratory else "evidence"
    if len(ranked) > MOST_ARMS:
        lines.append(f"and {len(ranked) - MOST_ARMS:,} more arms, in summary.csv")
    return "\n".join([f"{sweep.name}, by {name_of(sweep.metric)} ({note})", *lines])
