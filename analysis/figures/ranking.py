"""Who is ahead, and by how much."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.claims import rule_of
from analysis.compare.ranking import arms_in_order, rank_arms, seed_table
from analysis.figures.plot import Plot
from analysis.figures.style import INK, draw_values, drawn_of, looks, make_row, styled
from analysis.format import name_of, title_of
from analysis.inference.decision import DECIDED
from analysis.inference.intervals import MIN_FOR_INTERVAL
from analysis.sweep import Sweep

MOST = 30  # arms


@styled
def ranked_intervals(sweep: Sweep) -> Figure:
    """The arms, best first. Left: every seed's value as a small open mark, above it mean and interval. Right:
    the difference that is decided, with its interval; open where it is not."""
    metric = sweep.shown_metric
    prefix = "test_" if sweep.test_metric else ""
    unit, how = sweep.unit(metric), looks(sweep)
    ranked, seeds = rank_arms(sweep), seed_table(sweep, metric) * unit.factor
    rows = {str(row["arm"]): row for _, row in ranked[ranked[f"{prefix}n"] > 0].iterrows()}
    arms = [arm for arm in arms_in_order(sweep, MOST) if arm in rows]
    titles = [title_of(metric, unit)]
    if any(np.isfinite(rows[arm][f"{prefix}diff"]) for arm in arms):
        other = "the arm it is tested against" if rule_of(sweep).question == "best" else "baseline"
        titles.append(f"difference from {other}" + unit.difference_suffix)
    figure, panels = make_row(titles, arms)
    for y, arm in enumerate(arms):
        row, look, values = rows[arm], how[arm], list(seeds[arm].dropna())
        draw_values(panels[0], y + 0.22, values, look, across=True)
        if len(values) >= MIN_FOR_INTERVAL:
            _interval(panels[0], y - 0.12, row, prefix, unit.factor, look.color)
        mean = row[f"{prefix}mean"] * unit.factor
        panels[0].plot([mean], [y - 0.12], look.marker, color=look.color, ms=3.2)
        if len(panels) > 1 and np.isfinite(row[f"{prefix}diff"]):
            _interval(panels[1], y, row, f"{prefix}diff_", unit.factor, look.color)
            is_open = rule_of(sweep).is_of_arms and row[f"{prefix}verdict"] not in DECIDED
            fill = "white" if is_open else look.color
            panels[1].plot([row[f"{prefix}diff"] * unit.factor], [y], look.marker, color=look.color, mfc=fill)
    for axes in panels[1:]:
        axes.axvline(0, color=INK, lw=0.8)
        for margin in {rule_of(sweep).margin or 0.0} - {0.0}:
            axes.axvspan(-margin * unit.factor, margin * unit.factor, color=INK, alpha=0.08, lw=0)
    return figure


def _interval(axes: Axes, y: float, row: pd.Series, key: str, factor: float, color: str) -> None:
    """A line with ends that stand out, so that no mark hides it."""
    low, high = row[f"{key}low"] * factor, row[f"{key}high"] * factor
    axes.plot([low, high], [y, y], "|-", color=color, lw=1.6, ms=6.5, mew=1.1)


def _caption(sweep: Sweep) -> str:
    rule, shown = rule_of(sweep), len(sweep.arms) > 1
    said = (
        f"Left: mean {name_of(sweep.shown_metric)}, 95% interval over seeds from "
        f"{MIN_FOR_INTERVAL} on, and each seed (open circles)."
    )
    if shown:
        marks = "; filled marks: better, worse or equivalent; open marks: not settled"
        said += f" Right: the {rule.pairing} difference and its interval, as in the table"
        said += f"{marks if rule.is_of_arms else ''}."
    if shown and rule.margin:
        said += " Shaded: the margin of equivalence."
    said += drawn_of(sweep, MOST)
    return said if shown else said.removeprefix("Left: ").capitalize()


PLOTS = (Plot("ranking", "Ranking", _caption, ranked_intervals, lambda sweep: True, panels=True),)
