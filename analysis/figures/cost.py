"""What accuracy costs in parameters and in training FLOPs."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from analysis.compare.ranking import arms_in_order, counted_trials, rank_arms, seed_table
from analysis.figures.plot import INTERVAL, Plot
from analysis.figures.style import (
    INK,
    MOST,
    draw_values,
    drawn_of,
    finish_x,
    label_ends,
    looks,
    make_axes,
    styled,
    titled,
)
from analysis.format import name_of, title_of
from analysis.inference.intervals import MIN_FOR_INTERVAL
from analysis.sweep import Sweep, records

TITLE = "Accuracy against size and compute"
COSTS = {"num_params": "parameters", "flops": "training FLOPs of a trial"}
DIFFER = 1.25  # the least ratio of the dearest arm to the cheapest one at which the cost is worth a figure


@styled
def accuracy_against(sweep: Sweep, cost: str = "num_params") -> Figure:
    """The objective of every arm that has a value, with its 95% interval, against `cost` (a key of COSTS).

    The dashed steps are the Pareto front of the means; arms on it are filled, the others open.
    """
    unit, how, ranked = sweep.unit(sweep.metric), looks(sweep), costs(sweep, cost)
    ranked = ranked[ranked["arm"].isin(arms_in_order(sweep, MOST))]
    seeds = seed_table(sweep, sweep.metric) * unit.factor
    figure, axes = make_axes(2.5, list(ranked["arm"]))
    axes.margins(x=0.08, y=0.12)
    front = ranked[ranked["front"]].sort_values(cost)
    axes.step(front[cost], front["mean"] * unit.factor, where="post", color=INK, lw=0.9, ls="--", alpha=0.55)
    ends = {}
    for row in records(ranked):
        look, x, y = how[row.arm], getattr(row, cost), row.mean * unit.factor
        low, high = unit.factor * row.low, unit.factor * row.high
        if row.n < MIN_FOR_INTERVAL:
            draw_values(axes, x, list(seeds[row.arm].dropna()), look)
        else:
            axes.plot([x, x], [low, high], color=look.color, lw=1.1)
        fill = look.color if row.front else "none"
        axes.plot([x], [y], look.marker, color=look.color, mfc=fill, ms=6, mew=1.1)
        ends[row.arm] = (x, y)
    if len(ranked) and ranked[cost].max() > 4 * ranked[cost].min():
        axes.set_xscale("log")
    finish_x(axes, COSTS[cost])
    label_ends(axes, ends, how, leaders=False)
    titled(axes, title_of(sweep.metric, unit))
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


def _caption(sweep: Sweep, cost: str) -> str:
    return (
        f"Mean {name_of(sweep.metric)} against {COSTS[cost]}: {INTERVAL}. Dashed: the Pareto front of the "
        f"means; filled marks lie on it: no other arm is both cheaper and better.{drawn_of(sweep)}"
    )


def _differ(sweep: Sweep, cost: str) -> bool:
    """Whether the arms that have a value differ enough in what they cost: else the ranking says it all."""
    found = costs(sweep, cost)[cost]
    return bool(len(found) > 1 and found.max() > DIFFER * found.min())


def _plot(name: str, cost: str) -> Plot:
    return Plot(
        name,
        TITLE,
        lambda sweep: _caption(sweep, cost),
        lambda sweep: accuracy_against(sweep, cost),
        # Where training FLOPs were made equal, they are no cost to compare.
        lambda sweep: not (cost == "flops" and sweep.train_flops is not None) and _differ(sweep, cost),
    )


PLOTS = (_plot("params", "num_params"), _plot("flops", "flops"))
