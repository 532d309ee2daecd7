"""Which trials count, the arms against the baseline, and the ranking of the arms.

Only completed trials have a final value. The last value of a stopped trial is not the one it would have
reached, and stopping depends on the values, so that a mean over all trials, or over the survivors, is biased.
Only trials of the evidence phase, neither selected on their own result nor stopped early, support claims.
Stopped trials are compared in analysis.stopping.common_samples.

Seeds are the unit of replication. Intervals, tests and verdicts are those of analysis.compare.comparisons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.compare.claims import Claims, claims_of, seeds_looked_at
from analysis.compare.comparisons import (
    EXPLORATORY,
    NOT_ASKED,
    NOT_SETTLED,
    P_VALUES,
    columns_of,
    comparisons,
    of_seeds,
)
from analysis.inference.decision import Comparison, decide
from analysis.inference.intervals import ALPHA, MIN_FOR_INTERVAL
from analysis.inference.samples import Pair
from analysis.inference.selection import corrected_best
from analysis.inference.sequential import Schedule, schedule_of
from analysis.inference.significance import holm
from analysis.sweep import OPEN, STATUSES, Sweep

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

# Which trials count


def claim_of(sweep: Sweep) -> str:
    """ "confirmatory" if a trial of the evidence phase has completed, else "exploratory"."""
    return "exploratory" if sweep.is_exploratory else "confirmatory"


def ranking_phase(sweep: Sweep) -> str:
    """The phase whose trials rank the arms: evidence if it has begun, else search."""
    return "search" if sweep.is_exploratory else "evidence"


def counted_trials(sweep: Sweep) -> pd.DataFrame:
    """The trials that the ranking uses: the completed ones of one phase.

    Those of the evidence phase if there are any, up to the last look that was taken; else the survivors of
    the search: for an arm with several draws, the draw that most seeds completed, and the best of these, as
    it was selected on the result shown.
    """
    phase = ranking_phase(sweep)
    is_done = (sweep.trials["status"] == "completed") & ~sweep.audited
    done = sweep.trials[is_done & (sweep.trials["phase"] == phase)]
    if phase == "evidence":
        return done[_looked_at(sweep, done)]
    if done.empty:
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
    wanted = table["arm"].map(draws).fillna(1) if not sweep.is_exploratory else 1
    table["mean"] = table["mean"].where(table["count"] >= wanted)
    return table.pivot(index="seed", columns="arm", values="mean").reindex(columns=sweep.arms).astype(float)


# The ranking


def compare(sweep: Sweep, metric: str) -> pd.DataFrame:
    """A row per arm, with the columns of `analysis.compare.comparisons.comparisons`, and `against`, the arm
    that it is compared with; the family is all planned comparisons.

    On the metric of the claims the comparisons are those that the looks recorded. Intervals are cut to the
    limits of the metric, and of its differences. Exploratory arms, and other metrics of a sweep with looks,
    have no p: whatever was selected or stopped on the result shown cannot support a claim. Nor have arms of a
    sweep that asks for effects or for spread, whose differences have a 95% interval each. Exploratory
    differences have an interval from MIN_FOR_INTERVAL seeds on, as means have. Raises
    AnalysisError if the space's `evidence` is invalid.
    """
    claims, table = claims_of(sweep), seed_table(sweep, metric)
    limits, lost = sweep.unit(metric).limits, lost_seeds(sweep)
    result = comparisons(
        table,
        sweep.baseline,
        claims.rule,
        maximise=sweep.maximise,
        family=claims.rule.number_of_comparisons(len(sweep.arms)),
        limits=limits,
        lost=lost,
        level=claims.level,
    )
    result["against"] = sweep.baseline
    others = result["arm"] != sweep.baseline
    if sweep.is_exploratory:
        result[list(P_VALUES)] = np.nan
        result.loc[others, "verdict"] = EXPLORATORY
        seeds = np.minimum(result["n"], table[sweep.baseline].count())
        if claims.rule.pairing == "paired":
            seeds = result["n_pairs"]
        result.loc[seeds < MIN_FOR_INTERVAL, ["diff_low", "diff_high"]] = np.nan
    elif not claims.rule.is_of_arms:
        result[list(P_VALUES)] = np.nan
        result["decided_by"] = ""
        result.loc[others, "verdict"] = NOT_ASKED
        ends = [f"{claims.rule.pairing}_{end}" for end in ("low", "high")]
        result[["diff_low", "diff_high"]] = result[ends].to_numpy()
    elif claims.recorded and metric == claims.metric:
        means = {str(arm): float(mean) for arm, mean in result["mean"].items()}
        for arm in result.index:
            if (row := claims.of_arm(arm, means, sweep.maximise)) is not None:
                _record(result, row)
    elif claims.recorded:
        result[list(P_VALUES)] = np.nan
        result.loc[others, "verdict"] = NOT_SETTLED
    return result


def _record(result: pd.DataFrame, row: Comparison) -> None:
    """Put a recorded comparison into its arm's row."""
    for name, value in {**columns_of(row), "against": row.against}.items():
        result.loc[row.arm, name] = value
    if not row.look:
        result.loc[row.arm, "verdict"] = NOT_SETTLED


def decided_comparisons(sweep: Sweep, claims: Claims) -> list[Comparison]:
    """The comparisons that the looks recorded; where there are none, those of all values that count, decided
    at once."""
    if claims.recorded:
        return list(claims.recorded)
    values = values_of(sweep, claims.metric)
    keys = claims.rule.pairs(sweep.arms, sweep.baseline)
    limits = sweep.unit(claims.metric).limits
    pairs = {
        (arm, against): Pair(values[arm], values[against], claims.rule, sweep.maximise, limits)
        for arm, against in keys
    }
    rows = decide([Comparison(*key) for key in keys], pairs, claims.rule, 0, Schedule((1,)), claims.level)
    if not sweep.is_exploratory:
        return rows
    return [
        replace(row, low=math.nan, high=math.nan, p=math.nan, p_adjusted=math.nan, p_equivalent=math.nan,
                p_equivalent_adjusted=math.nan, verdict=NOT_SETTLED)
        for row in rows
    ]  # fmt: skip


def values_of(sweep: Sweep, metric: str) -> dict[str, dict[int, float]]:
    """Each arm's value at each seed, NaN where a run diverged or failed."""
    table, lost = seed_table(sweep, metric), lost_seeds(sweep)
    return {arm: of_seeds(table[arm], lost.get(arm, set())) for arm in sweep.arms}


def best_set(sweep: Sweep, claims: Claims) -> list[str]:
    """The arms that are not worse than any other one, by all pairs with family-wise level 5%: a 95% set of
    the best under question best, exploratory under another one. Empty where nothing carries claims.

    Under another question pairs are compared at the earlier of the two arms' last looks, by repeated p.
    """
    if claims.rule.question == "best":
        return claims.best_set if claims.carried else []
    if sweep.is_exploratory or len(sweep.arms) < 2:
        return []
    values = values_of(sweep, claims.metric)
    looks = {row.arm: row.look for row in claims.recorded if row.look}
    if claims.recorded and not looks:
        return []
    last = max(looks.values(), default=1)
    schedule = schedule_of(claims.looks or (1,), claims.rule.anytime)
    limits = sweep.unit(claims.metric).limits
    keys = list(itertools.combinations(sweep.arms, 2))
    p, signs = [], []
    for arm, other in keys:
        pair = Pair(values[arm], values[other], replace(claims.rule, margin=None), sweep.maximise, limits)
        look = min(looks.get(arm, last), looks.get(other, last), len(schedule.looks))
        p.append(float(schedule.p(look - 1, pair.p)))
        signs.append(math.copysign(1.0, pair.diff) * (1 if sweep.maximise else -1))
    worse = {
        key[0] if sign < 0 else key[1]
        for key, value, sign in zip(keys, holm(p, len(keys)), signs, strict=True)
        if value <= ALPHA
    }
    return [arm for arm in sweep.arms if arm not in worse and values[arm]]


def winners_mean(sweep: Sweep, metric: str) -> float | None:
    """The mean on `metric` of the arm that ranks first, which is by the objective, corrected for selection
    (`inference.selection`)."""
    ranked_by, shown = seed_table(sweep, sweep.metric), seed_table(sweep, metric)
    both = {arm: ranked_by[arm].notna() & shown[arm].notna() for arm in sweep.arms}
    values, read = (
        [table.loc[rows, arm].to_numpy() for arm, rows in both.items()] for table in (ranked_by, shown)
    )
    return corrected_best(values, read, sweep.maximise)


def lost_seeds(sweep: Sweep) -> dict[str, set[int]]:
    """The seeds of each arm's evidence with a run that diverged, or failed by its trainer."""
    trials = sweep.trials[sweep.trials["phase"] == "evidence"]
    trials = trials[~trials["trial_id"].isin(sweep.lost_with_node)]
    trials = trials[_looked_at(sweep, trials)]
    bad = trials[trials["status"].isin(("diverged", "failed"))]
    return {str(arm): {int(seed) for seed in group["seed"]} for arm, group in bad.groupby("arm")}


def _looked_at(sweep: Sweep, trials: pd.DataFrame) -> pd.Series:
    """Mask of the trials that a look has seen, and of those of arms that no look has seen."""
    seen = seeds_looked_at(sweep)
    counts = [
        arm not in seen or seed in seen[arm] for arm, seed in zip(trials["arm"], trials["seed"], strict=True)
    ]
    return pd.Series(counts, index=trials.index, dtype=bool)


def arms_in_order(sweep: Sweep, most: int | None = None) -> list[str]:
    """The arms as they rank, in the order of every table and figure; of more than `most` the first, and the
    baseline."""
    arms = [str(arm) for arm in rank_arms(sweep)["arm"]]
    if most is None or len(arms) <= most:
        return arms
    first = arms[:most]
    return first if sweep.baseline in first else [*first[:-1], sweep.baseline]


def rank_arms(sweep: Sweep) -> pd.DataFrame:
    """The arms by the objective's mean, best first; arms without a counted trial are last.

    Columns: those of `compare` on the objective; the same on its test counterpart as `test_mean`,
    `test_diff`, and so on, if there is one (rank on val, claim on test); `claim`; `num_params`,
    `flops_per_sample`; `samples` and `wall_s`, means over the trials that count (if none does, the most
    samples of a trial of the arm); and, for the phase that the ranking uses, the number of trials of the arm
    (`n_trials`), and how many of them are pruned, diverged, failed or unfinished (`n_pruned`, `n_diverged`,
    `n_failed`, `n_open`). Worked out once a sweep.
    """
    if "ranking" not in sweep.kept:
        sweep.kept["ranking"] = _ranked(sweep)
    return sweep.kept["ranking"].copy()


def _ranked(sweep: Sweep) -> pd.DataFrame:
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
