"""Who is ahead."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.compare.ranking import rank_arms, seed_table
from analysis.figures.plot import Plot
from analysis.figures.style import draw_values, looks, make_axes, short, styled
from analysis.format import name_of, title_of
from analysis.inference.intervals import MIN_FOR_INTERVAL
from analysis.sweep import Sweep


@styled
def ranked_intervals(sweep: Sweep) -> Figure:
    """The arms, best first: every seed's value as a small open mark, mean and 95% interval beside it."""
    metric = sweep.test_metric or sweep.metric
    prefix = "test_" if sweep.test_metric else ""
    unit, how = sweep.unit(metric), looks(sweep)
    ranked, seeds = rank_arms(sweep), seed_table(sweep, metric) * unit.factor
    ranked = ranked[ranked[f"{prefix}n"] > 0]
    figure, axes = make_axes(0.75 + 0.32 * max(len(ranked), 1), [], left=list(ranked["arm"]))
    for y, (_, row) in enumerate(ranked.iterrows()):
        look, values = how[row["arm"]], seeds[row["arm"]].dropna()
        low, high = unit.factor * row[f"{prefix}low"], unit.factor * row[f"{prefix}high"]
        if len(values) >= MIN_FOR_INTERVAL:
            axes.plot([low, high], [y, y], color=look.color, lw=1.6)
        draw_values(axes, y + 0.27, list(values), look, across=True)
        axes.plot([row[f"{prefix}mean"] * unit.factor], [y], look.marker, color=look.color, ms=6)
    axes.set_yticks(range(len(ranked)), [short(arm) for arm in ranked["arm"]])
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(title_of(metric, unit), loc="right")
    return figure


PLOTS = (
    Plot(
        "ranking",
        "Ranking",
        lambda sweep: (
            f"Mean {name_of(sweep.test_metric or sweep.metric)}, 95% interval over seeds from "
            f"{MIN_FOR_INTERVAL} on, and each seed (open circles)."
        ),
        ranked_intervals,
        lambda sweep: True,
    ),
)
