"""The audit of early stopping: would stopped members have won, and where did ties prevent a decision.

With `scheduler.audit` p, each member that would be stopped runs on with probability p. They represent
all stopped ones: each has weight 1/p beside the survivors (inverse-probability weights, Horvitz and Thompson
1952). With few of them the correlation is biased towards 0.

Members of one pool are compared with the same best survivor, and win or lose together: they are not
independent. What is counted, and has an interval, is pools.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.format import name_of, si
from analysis.inference.intervals import MIN_FOR_INTERVAL, share_interval
from analysis.sweep import Sweep

FEWEST = 3  # audited members for a correlation


@dataclass(frozen=True)
class Audit:
    """Of the `stopped` members, including those that ran on, `seen` ran to their end, and `won` of these beat
    every survivor of their pool. They are in `pools` pools, of which `pools_won` have such a one.
    `correlation` has, by rung, the correlation of rung and final values and its number of members, if enough
    of them were audited.
    """

    stopped: int
    seen: int
    won: int
    pools: int
    pools_won: int
    correlation: dict[float, tuple[float, int]]

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval (Clopper and Pearson 1934) of the share of pools in which an audited member beats
        every survivor; pools are taken to be independent. NaN below MIN_FOR_INTERVAL pools."""
        if self.pools < MIN_FOR_INTERVAL:
            return math.nan, math.nan
        return share_interval(self.pools_won, self.pools)


def audit(sweep: Sweep) -> Audit | None:
    """The audit; None if no audited member has finished."""
    share = float((sweep.space.get("scheduler") or {}).get("audit") or 0)
    decisions = sweep.decisions
    out = decisions[decisions["action"].isin(["stop", "audit"])].drop_duplicates("member")
    audited = set(out.loc[out["action"] == "audit", "member"])
    finals = _finals(sweep)
    seen = finals[finals["member"].isin(audited)]
    if not share or seen.empty:
        return None
    best = finals[~finals["member"].isin(audited)].groupby("pool")["final"].max()
    won = seen["final"] > seen["pool"].map(best).fillna(-math.inf)
    by_pool = won.groupby(seen["pool"]).any()
    members = finals.assign(audited=finals["member"].isin(audited))
    members["weight"] = np.where(members["audited"], 1 / share, 1.0)
    correlations = {float(rung): _at_rung(sweep, members, rung) for rung in decisions["rung"].unique()}
    told = {rung: correlations[rung] for rung in sorted(correlations) if correlations[rung][1]}
    return Audit(len(out), len(seen), int(won.sum()), len(by_pool), int(by_pool.sum()), told)


def _finals(sweep: Sweep) -> pd.DataFrame:
    """Finished members of the search: `member`, `pool`, `final` (the mean over the search's seeds; higher is
    better, and a diverged member has the worst value)."""
    search = sweep.trials[sweep.trials["phase"] == "search"]
    if sweep.space.get("tune"):  # leaves out evidence that a longer search has superseded
        search = search[search["seed"].isin((sweep.space.get("search") or {}).get("seeds") or [0])]
    scope = (sweep.space.get("scheduler") or {}).get("scope")
    value = (1 if sweep.maximise else -1) * search[sweep.metric]
    table = search.assign(
        member=search["arm"] + "-d" + search["draw"].astype(str),
        pool=search["arm"] if scope == "arm" else "sweep",
        final=value.where(search["status"] != "diverged", -math.inf),
        ended=search["status"].isin(["completed", "diverged"]),
    )
    whole = table.groupby("member")["ended"].transform("all")
    return table[whole].groupby(["member", "pool"])["final"].mean().reset_index().dropna()


def _at_rung(sweep: Sweep, members: pd.DataFrame, rung: float) -> tuple[float, int]:
    """The rank correlation within pools, and its number of members; 0 if too few were audited."""
    there = sweep.decisions[sweep.decisions["rung"] == rung].drop_duplicates("member", keep="last")
    sign = 1 if sweep.judged_maximise else -1
    table = members.merge(there[["member", "value"]], on="member").dropna()
    if table["audited"].sum() < FEWEST:
        return math.nan, 0
    value = weighted_rank_correlation(sign * table["value"], table["final"], table["weight"], table["pool"])
    return value, len(table) if math.isfinite(value) else 0


def weighted_rank_correlation(x: pd.Series, y: pd.Series, weights: pd.Series, pools: pd.Series) -> float:
    """Spearman's within pools, where a row of weight w counts as w rows; NaN if one variable is
    constant. Ranks are relative to the pool's size, so that pools count by their number of rows."""
    w = weights.to_numpy(dtype=float)
    a, b = _ranks(x, weights, pools), _ranks(y, weights, pools)
    spread = math.sqrt(float(np.sum(w * a * a)) * float(np.sum(w * b * b)))
    return float(np.sum(w * a * b)) / spread if spread > 0 else math.nan


def _ranks(values: pd.Series, weights: pd.Series, pools: pd.Series) -> np.ndarray:
    """The mean rank of each row in its pool, from -1/2 to 1/2, with each row repeated by its weight."""
    v, w, p = values.to_numpy(dtype=float), weights.to_numpy(dtype=float), pools.to_numpy()
    ranks = []
    for value, pool in zip(v, p, strict=True):
        mine = p == pool
        below, equal = w[mine & (v < value)].sum(), w[mine & (v == value)].sum()
        ranks.append((below + equal / 2) / w[mine].sum() - 0.5)
    return np.array(ranks)


def audit_text(sweep: Sweep) -> str:
    """The audit's results as sentences; '' if there was no audit."""
    found = audit(sweep)
    if found is None:
        return ""
    rungs = ", ".join(
        f"{value:.2f} at {si(rung)} (n = {n})" for rung, (value, n) in found.correlation.items()
    )
    text = (
        f"Audit: of {found.stopped} draws that were to be stopped, {found.seen} ran to their end to be "
        f"looked at; they enter no cut-off, no choice and no mean. {found.won} of them beat every "
        f"survivor of {'its' if found.won == 1 else 'their'} pool. "
    )
    if found.pools > 1:
        text += f"By pool: in {found.pools_won} of {found.pools} an audited draw would have won"
        low, high = found.interval
        text += f" ({low:.0%} to {high:.0%}, 95% interval over pools). " if math.isfinite(low) else ". "
    text += "Draws of a pool are judged against the same survivor, so that they are no independent cases" + (
        "."
        if found.pools >= MIN_FOR_INTERVAL
        else f", and below {MIN_FOR_INTERVAL} pools no interval is given."
    )
    if rungs:
        text += (
            f" Rank correlation of {name_of(sweep.judged_metric)} at a rung with the final "
            f"{name_of(sweep.metric)}, weighted for those that were stopped: {rungs}."
        )
    return text


def ties_text(sweep: Sweep) -> str:
    """Text: rungs at which members continued because they tied with the cut-off; '' if none did."""
    decisions = sweep.decisions
    if "tied" not in decisions:
        return ""
    tied = decisions[
        (decisions["action"] == "continue")
        & (decisions["tied"] > 0)
        & (decisions["value"] == decisions["cutoff"])
    ]
    if tied.empty:
        return ""
    rungs = ", ".join(
        f"{n} at {si(float(str(rung)))}" for rung, n in tied.groupby("rung")["member"].nunique().items()
    )
    return (
        f"Ties: {rungs} went on with the very value of the cut-off, which others had too: a tie stops "
        f"nobody. Where {name_of(sweep.judged_metric)} does not move by then, judge by another metric, or "
        "later."
    )
