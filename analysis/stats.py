"""What a sweep's numbers allow one to say: intervals, paired differences, exact tests, the ranking of arms.

Only a completed trial carries a number: the last value of a stopped one is not what it would have reached,
and which trials are stopped depends on how they did, so that a mean over both, or over the survivors alone,
is biased. Only trials of the evidence phase, neither selected on their own result nor stopped early, carry
claims.

Seeds are the unit of replication. An arm is compared with the baseline over the seeds that both have:
Student-t interval of the differences (BCa covers only 84% at n = 5), and the exact sign-flip test, whose p
is at least 2^(1-n); Holm's procedure (1979) over the comparisons with the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.load import STATUSES, Sweep
from analysis.units import unit_of

ALPHA = 0.05
EXACT_UP_TO = 20  # seeds; 2^20 sign patterns are enumerated, beyond that they are drawn
OPEN = ("interrupted", "not_started", "running")
COMPARED = (
    "arm", "n", "mean", "low", "high", "n_pairs", "diff", "diff_low", "diff_high", "p", "p_holm", "too_small",
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% confidence interval over n values; the ends are NaN below two values."""

    n: int
    mean: float
    low: float
    high: float


def t_interval(values: Sequence[float] | np.ndarray | pd.Series, confidence: float = 1 - ALPHA) -> Interval:
    """Student-t interval of the mean. Values that are not finite are left out."""
    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    n = len(array)
    if n < 2:
        return Interval(n, float(array[0]) if n else math.nan, math.nan, math.nan)
    mean = float(array.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Interval(n, mean, mean - half, mean + half)


def sign_flip_p(differences: Sequence[float] | np.ndarray | pd.Series, seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test that the mean difference is 0.

    Exact up to EXACT_UP_TO differences: the share of all 2^n sign patterns whose sum is at least as far from
    0 as the one seen. Beyond, 100,000 patterns drawn with `seed`, the seen one counted in. NaN without any
    value.
    """
    array = np.asarray(differences, dtype=float)
    array = array[np.isfinite(array)]
    if len(array) == 0:
        return math.nan
    seen = abs(array.sum()) * (1 - 1e-12)  # patterns that tie but for rounding count as ties
    if len(array) > EXACT_UP_TO:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(100_000, len(array)))
        return float((np.count_nonzero(np.abs(signs @ array) >= seen) + 1) / (len(signs) + 1))
    sums = np.zeros(1)
    for value in array:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= seen))


def smallest_p(n: int) -> float:
    """The least p that the sign-flip test can give with n pairs: all differ in the same direction."""
    return 2.0 ** (1 - n) if n else math.nan


def seeds_needed(comparisons: int, alpha: float = ALPHA) -> int:
    """The least number of paired seeds at which one of so many comparisons could be significant."""
    return math.ceil(1 + math.log2(max(comparisons, 1) / alpha))


def holm(p_values: Sequence[float] | np.ndarray | pd.Series, family: int | None = None) -> np.ndarray:
    """Holm's step-down adjustment. NaN stays NaN.

    `family` is how many comparisons the sweep is to make (default: the finite p). Those that are missing
    count as the largest p: what failed or has not run yet must not make the others look significant.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), math.nan)
    members = np.flatnonzero(np.isfinite(p))
    order = members[np.argsort(p[members], kind="stable")]
    largest = len(order) if family is None else family
    steps = p[order] * np.arange(largest, largest - len(order), -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


# Which trials count


def claim_of(sweep: Sweep) -> str:
    """Confirmatory once a trial of the evidence phase has completed, else exploratory."""
    done = sweep.trials["status"] == "completed"
    return "confirmatory" if (done & (sweep.trials["phase"] == "evidence")).any() else "exploratory"


def ranking_phase(sweep: Sweep) -> str:
    """The phase whose trials rank the arms: the evidence once there is any, else the search."""
    return "evidence" if claim_of(sweep) == "confirmatory" else "search"


def counted_trials(sweep: Sweep) -> pd.DataFrame:
    """The trials that the ranking rests on: completed, and of one phase alone.

    The evidence's, once there are any. Before, the survivors of the search; of an arm with several draws, the
    draw that most seeds completed and, among those, did best: it was chosen on the result shown.
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
    """Last value of `metric`: a row a seed, a column an arm, NaN where it does not count.

    An arm whose evidence has several draws is their mean, at the seeds where all of them completed.
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
    """A row an arm: n, mean, low, high; and over the seeds shared with the baseline n_pairs, diff, diff_low,
    diff_high, p (sign-flip), p_holm, and too_small: it could not be significant even if all seeds of
    every arm agreed. Interval ends are cut at the bounds of the metric, and of its differences.

    Exploratory arms get no p: no claim may rest on trials that were selected on the result shown.
    """
    table, unit, rows = seed_table(sweep, metric), unit_of(metric), []
    for arm in sweep.arms:
        own = t_interval(table[arm])
        row = {"arm": arm, "n": own.n, "mean": own.mean, "low": own.low, "high": own.high}
        if arm != sweep.baseline:
            differences = (table[arm] - table[sweep.baseline]).dropna()
            gap = t_interval(differences)
            row |= {"n_pairs": gap.n, "diff": gap.mean, "diff_low": gap.low, "diff_high": gap.high}
            row |= {"p": sign_flip_p(differences), "least": smallest_p(gap.n)}
        rows.append(row)
    result = pd.DataFrame(rows).set_index("arm", drop=False)
    family = len(sweep.arms) - 1
    result["too_small"] = holm(result["least"], family) > ALPHA if "least" in result else False
    result = result.reindex(columns=COMPARED)
    least, most = unit.limits
    for prefix, bounds in (("", (least, most)), ("diff_", (least - most, most - least))):
        for end in ("low", "high"):
            result[prefix + end] = result[prefix + end].astype(float).clip(*bounds)
    result["n_pairs"] = result["n_pairs"].fillna(0).astype(int)
    if claim_of(sweep) == "exploratory":
        result["p"] = math.nan
    result["p_holm"] = holm(result["p"].to_numpy(dtype=float), family)
    return result


def rank_arms(sweep: Sweep) -> pd.DataFrame:
    """The arms, best first by the objective's mean; those of which no trial counts come last.

    Columns: those of `compare` on the objective; the same on its test counterpart as `test_mean`,
    `test_diff`, and so on, where there is one (rank on val, claim on test); `claim`; `num_params`,
    `flops_per_sample`; `samples` and `wall_s`, means over the trials that count (where none does, the samples
    of the arm's furthest trial); and, of the phase that the ranking rests on, how many trials of the arm
    there are (`n_trials`) and were `n_pruned`, `n_diverged`, `n_failed`, or are `n_open`.
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
    """Trials of each arm with one of these statuses, in the phase that the ranking rests on."""
    phase = sweep.trials["phase"] == ranking_phase(sweep)
    matching = sweep.trials[phase & sweep.trials["status"].isin(statuses)]
    return matching.groupby("arm").size().reindex(sweep.arms, fill_value=0)
