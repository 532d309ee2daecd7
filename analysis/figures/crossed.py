"""How two crossed factors work together."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.design import levels, levels_of
from analysis.explain.interactions import cell_means, crossed
from analysis.figures.plot import INTERVAL, Plot
from analysis.figures.style import draw_whiskers, label_ends, looks_of, make_grid, short, styled, titled
from analysis.format import Unit, name_of, title_of
from analysis.sweep import Sweep

PANELS = 3  # pairs of factors that are drawn


@styled
def interactions(sweep: Sweep) -> Figure:
    """For each two crossed factors: a line a level of the one over the levels of the other, mean and 95%
    interval over seeds. Where lines do not run alike, one factor's effect depends on the other's level."""
    metric = sweep.shown_metric
    unit, pairs, table = sweep.unit(metric), crossed_pairs(sweep)[:PANELS], levels(sweep)
    names = [level for _, b in pairs for level in levels_of(table, b, sweep.baseline)]
    figure, panels = make_grid(len(pairs), 1, 2.3, names)
    for axes, (a, b) in zip(panels, pairs, strict=True):
        found = cell_means(sweep, a, b, metric).dropna(subset=["mean"])
        _panel(
            axes, found.astype({"level_a": str, "level_b": str}), levels_of(table, b, sweep.baseline), unit
        )
        axes.set_xlabel(a)
        titled(axes, f"{title_of(metric, unit)}, a line a level of {b}")
    return figure


def _panel(axes: Axes, found: pd.DataFrame, lines: list[str], unit: Unit) -> None:
    """Cells of two factors: a line for each of `lines`, the levels of the second one."""
    places = {level: i for i, level in enumerate(_in_order(list(dict.fromkeys(found["level_a"]))))}
    how, ends = dict(zip(lines, looks_of(len(lines)), strict=True)), {}
    for i, level in enumerate(lines):
        rows = found[found["level_b"] == level]
        rows = rows.assign(x=rows["level_a"].map(places)).sort_values("x")
        if rows.empty:
            continue
        x = rows["x"] + (i - (len(lines) - 1) / 2) * 0.05  # apart, to tell them
        draw_whiskers(axes, x, rows, how[level], unit.factor)
        ends[level] = (float(x.iloc[-1]), float(rows["mean"].iloc[-1]) * unit.factor)
    axes.set_xticks(range(len(places)), [short(level, 14) for level in places])
    axes.set_xlim(-0.35, len(places) - 0.65)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    label_ends(axes, ends, how)


def crossed_pairs(sweep: Sweep) -> list[tuple[str, str]]:
    """Crossed pairs of factors with values in two lines or more. The factor for the x axis comes first: it
    has numbers for levels, or more of them."""
    table, found = levels(sweep), []
    for pair in crossed(sweep):
        a, b = sorted(pair, key=lambda name: _crowd(levels_of(table, name, sweep.baseline)))
        points = cell_means(sweep, a, b).dropna(subset=["mean"]).groupby("level_b", observed=True).size()
        if (points >= 2).sum() >= 2:
            found.append((a, b))
    return found


def _crowd(names: Sequence[str]) -> tuple[bool, int]:
    """By which the factor for the x axis comes first."""
    return not _numeric(names), -len(names)


def _in_order(names: list[str]) -> list[str]:
    """Numbers by size, anything else as it stands."""
    return sorted(names, key=float) if _numeric(names) else names


def _numeric(names: Sequence[str]) -> bool:
    numbers = pd.to_numeric(pd.Series(names), errors="coerce")
    return bool(numbers.notna().all())


PLOTS = (
    Plot(
        "interactions",
        "Factors",
        lambda sweep: (
            f"Interaction: mean {name_of(sweep.shown_metric)} by two factors' levels, "
            f"{INTERVAL}. Where lines do not run alike, the effect of one factor depends on the other."
        ),
        interactions,
        lambda sweep: len(crossed_pairs(sweep)) > 0,
    ),
)
