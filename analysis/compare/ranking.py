"""Which trials count, the arms against the baseline, and the ranking of the arms.

Only completed trials have a final value. The last value of a stopped trial is not the one it would have
reached, and stopping depends on the values, so that a mean over all trials, or over the survivors, is biased.
Only trials of the evidence phase, neither selected on their own result nor stopped early, support claims.
Stopped trials are compared in analysis.stopping.common_samples.

Seeds are the unit of replication. Intervals, tests and verdicts are those of analysis.compare.comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.compare.comparisons import EXPLORATORY, P_VALUES, Rule, comparisons
from analysis.inference.intervals import ALPHA
from analysis.sweep import STATUSES, Sweep

__all__ = [
    "ALPHA",
    "OPEN",
    "claim_of",
    "compare",
    "counted_trials",
    "rank_arms",
    "ranking_phase",
    "seed_table",
]

OPEN = ("interrupted", "not_started", "running")


# Which trials count


def claim_of(sweep: Sweep) -> str:
    """ "confirmatory" if a trial of the evidence phase has completed, else "exploratory"."""
    done = sweep.trials["status"] == "completed"
    return "confirmatory" if (done & (sweep.trials["phase"] == "evidence")).any() else "exploratory"


def ranking_phase(sweep: Sweep) -> str:
    """The phase whose trials rank the arms: evidence if it has begun, else search."""
    return "evidence" if claim_of(sweep) == "confirmatory" else "search"


def counted_trials(sweep: Sweep) -> pd.DataFrame:
    """The trials that the ranking uses: the completed ones of one phase.

    Those of the evidence phase if there are any, else the survivors of the search. For an arm with several
    draws, the draw that most seeds completed, and the best of these: it was selected on the result shown.
    """
    phase = ranking_phase(sweep)
    is_done = (sweep.trials["status"] == "completed") & ~sweep.audited
    done = sweep.trials[is_done & (sweep.trials["phase"] == phase)]
    if phase == "evidence" or done.empty:
        return done
    sign = 1.0 if sweep.maximise else -1.0
    draws = done.groupby(["arm", "draw"])[sweep.metric].agg(["count", "mean"]).reset_index()
    draws = draws.assign(score=sign * draws["mean"]).sort_values(["count", "score"], ascending=False)
    best = draws.drop_duplicates("arm")[["arm", "draw"]]
    return done.merge(best, on=["arm", "draw"])


def seed_table(sweep: Sweep, metric: str) -> pd.DataFrame:
    """Last value of `metric`: a row per seed, a column per arm, NaN if it does not count.

    For an arm whose evidence has several draws: their mean, at the seeds where all of them completed.
    """
    rows = counted_trials(sweep)
    values = rows.assign(value=rows[metric].where(np.isfinite(rows[metric])))
    draws = sweep.trials[sweep.trials["phase"] == "evidence"].groupby("arm")["draw"].nunique()
    table = values.groupby(["seed", "arm"])["value"].agg(["count", "mean"]).reset_index()
    wanted = table["arm"].map(draws).fillna(1) if claim_of(sweep) == "confirmatory" else 1
    table["mean"] = table["mean"].where(table["count"] >= wanted)
    return table.pivot(index="seed", columns="arm", values="mean").reindex(columns=sweep.arms).astype(float)


# The ranking


def compare(sweep: Sweep, metric: str) -> pd.DataFrame:
    """A row per arm, with the columns of `analysis.compare.comparisons.comparisons`; the family is all
    planned arms.

    Intervals are clipped to the limits of the metric, and of its differences. Exploratory arms have no p, and
    the verdict "exploratory": trials that were selected on the result shown cannot support a claim. Raises
    AnalysisError if the space's `evidence` is invalid.
    """
    table = seed_table(sweep, metric)
    limits = sweep.unit(metric).limits
    result = comparisons(table, sweep.baseline, Rule.of(sweep), maximise=sweep.maximise, limits=limits)
    if claim_of(sweep) == "exploratory":
        result[list(P_VALUES)] = np.nan
        result.loc[result["arm"] != sweep.baseline, "verdict"] = EXPLORATORY
    return result


def rank_arms(sweep: Sweep) -> pd.DataFrame:
    """The arms by the objective's mean, best first; arms without a counted trial are last.

    Columns: those of `compare` on the objective; the same on its test counterpart as `test_mean`,
    `test_diff`, and so on, if there is one (rank on val, claim on test); `claim`; `num_params`,
    `flops_per_sample`; `samples` and `wall_s`, means over the trials that count (if none does, the most
    samples of a trial of the arm); and, for the phase that the ranking uses, the number of trials of the arm
    (`n_trials`), and how many of them are pruned, diverged, failed or unfinished (`n_pruned`, `n_diverged`,
    `n_failed`, `n_open`).
    """
    table = compare(sweep, sweep.metric)
    if sweep.test_metric:
        test = compare(sweep, sweep.test_metric).drop(columns="arm")
        table = table.join(test.add_prefix("test_"))
    counted, by_arm = counted_trials(sweep).groupby("arm"), sweep.trials.groupby("arm")
    table["claim"] = claim_of(sweep)
    for name in ("num_params", "flops_per_sample"):
        table[name] = [sweep.arm_number(arm, name) for arm in table.index]
    for name in ("samples", "wall_s"):
        table[name] = counted[name].mean().reindex(table.index)
    table["samples"] = table["samples"].fillna(by_arm["samples"].max())
    outcomes = {"trials": STATUSES, "open": OPEN} | {
        name: (name,) for name in ("pruned", "diverged", "failed")
    }
    for name, statuses in outcomes.items():
        table[f"n_{name}"] = _count(sweep, statuses)
    score = table["mean"] if sweep.maximise else -table["mean"]
    order = table.assign(score=score).sort_values(["score", "samples"], ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _count(sweep: Sweep, statuses: Sequence[str]) -> pd.Series:
    """Number of trials of each arm with one of these statuses, in the phase that the ranking uses."""
    phase = sweep.trials["phase"] == ranking_phase(sweep)
    matching = sweep.trials[phase & sweep.trials["status"].isin(statuses)]
    return matching.groupby("arm").size().reindex(sweep.arms, fill_value=0)
