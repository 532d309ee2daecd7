"""Who is ahead, and at what cost."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.compare.ranking import counted_trials, rank_arms, seed_table
from analysis.figures.style import INK, finish_x, label_ends, looks, make_axes, short, styled, titled
from analysis.format import title_of, unit_of
from analysis.sweep import Sweep, records

COSTS = {"num_params": "parameters", "flops": "training FLOPs of a trial"}


@styled
def ranked_intervals(sweep: Sweep) -> Figure:
    """The arms, best first: every seed's value as a small open mark, mean and 95% interval beside it."""
    metric = sweep.test_metric or sweep.metric
    prefix = "test_" if sweep.test_metric else ""
    unit, how = unit_of(metric), looks(sweep)
    ranked, seeds = rank_arms(sweep), seed_table(sweep, metric) * unit.factor
    ranked = ranked[ranked[f"{prefix}n"] > 0]
    figure, axes = make_axes(0.75 + 0.32 * max(len(ranked), 1), [], left=list(ranked["arm"]))
    for y, (_, row) in enumerate(ranked.iterrows()):
        look, values = how[row["arm"]], seeds[row["arm"]].dropna()
        low, high = unit.factor * row[f"{prefix}low"], unit.factor * row[f"{prefix}high"]
        axes.plot([low, high], [y, y], color=look.color, lw=1.6)
        axes.plot(values, np.full(len(values), y + 0.27), "o", mfc="none", mec=look.color, ms=3, mew=0.8)
        axes.plot([row[f"{prefix}mean"] * unit.factor], [y], look.marker, color=look.color, ms=6)
    axes.set_yticks(range(len(ranked)), [short(arm) for arm in ranked["arm"]])
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(title_of(metric), loc="right")
    return figure


@styled
def accuracy_against(sweep: Sweep, cost: str = "num_params") -> Figure:
    """The objective of every arm that has a value, with its 95% interval, against `cost` (a key of COSTS).

    The dashed steps are the Pareto front of the means; arms on it are filled, the others open.
    """
    unit, how, ranked = unit_of(sweep.metric), looks(sweep), costs(sweep, cost)
    figure, axes = make_axes(2.5 + 0.14 * max(0, len(ranked) - 10), list(ranked["arm"]))
    axes.margins(x=0.08, y=0.12)
    front = ranked[ranked["front"]].sort_values(cost)
    axes.step(front[cost], front["mean"] * unit.factor, where="post", color=INK, lw=0.9, ls="--", alpha=0.55)
    ends = {}
    for row in records(ranked):
        look, x, y = how[row.arm], getattr(row, cost), row.mean * unit.factor
        low, high = unit.factor * row.low, unit.factor * row.high
        axes.plot([x, x], [low, high], color=look.color, lw=1.1, alpha=0.7)
        fill = look.color if row.front else "none"
        axes.plot([x], [y], look.marker, color=look.color, mfc=fill, ms=6, mew=1.1)
        ends[row.arm] = (x, y)
    if len(ranked) and ranked[cost].max() > 4 * ranked[cost].min():
        axes.set_xscale("log")
    finish_x(axes, COSTS[cost])
    label_ends(axes, ends, how)
    titled(axes, title_of(sweep.metric))
    return figure


def costs(sweep: Sweep, cost: str) -> pd.DataFrame:
    """The ranked arms that have a mean and a cost, and whether each is on the Pareto `front`: no other arm is
    as cheap and better, or cheaper and as good. `flops` is the mean over the trials that count."""
    ranked = rank_arms(sweep)
    if cost == "flops":
        ranked["flops"] = ranked["arm"].map(counted_trials(sweep).groupby("arm")["flops"].mean())
    ranked = ranked.dropna(subset=["mean", cost])
    score = ranked["mean"] if sweep.maximise else -ranked["mean"]
    found, best = {}, -math.inf
    for index in ranked.assign(score=-score).sort_values([cost, "score"], kind="stable").index:
        found[index] = score[index] > best
        best = max(best, score[index])
    return ranked.assign(front=pd.Series(found, dtype=bool))
