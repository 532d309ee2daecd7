"""What each tuned value came to, arm by arm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.compare.ranking import arms_in_order
from analysis.explain.tuning import at_edge, draws, is_logarithmic, tuned
from analysis.figures.plot import Plot
from analysis.figures.style import (
    COLUMN,
    INK,
    MOST,
    Look,
    drawn_of,
    looks,
    make_grid,
    short,
    styled,
    width,
)
from analysis.format import join, name_of, si, title_of
from analysis.sweep import Sweep, records

KEYS = 3  # tuned values that are drawn


@styled
def slices(sweep: Sweep) -> Figure:
    """A panel an arm and tuned value: the value of each draw of the search against the objective that it
    reached, or where it was stopped. The choice is ringed."""
    keys, arms, found = tuned(sweep)[:KEYS], _arms(sweep), draws(sweep)
    unit, how, edges = sweep.unit(sweep.metric), looks(sweep), at_edge(sweep)
    found = found.assign(y=found["value"] * unit.factor)
    panels = [(arm, key) for arm in arms for key in keys]
    most = len(keys) if len(keys) > 1 else 2 if width() == COLUMN else 5
    columns = min(len(panels), most)
    figure, axes_of = make_grid(math.ceil(len(panels) / columns), columns, 1.6, below=0.55)
    ends = (found["y"].min(), found["y"].max())
    pad = 0.12 * (ends[1] - ends[0] or 1.0)
    for axes, (arm, key) in zip(axes_of, panels, strict=False):
        mine = found[(found["arm"] == arm) & found[key].notna()]
        axes.set_ylim(ends[0] - pad, ends[1] + pad)
        places = _places(axes, found[key].dropna(), is_logarithmic(sweep, key))
        for row in records(mine.assign(x=[places(value) for value in mine[key]])):
            _mark(axes, row, how[arm])
        axes.set_title(short(arm, 16), loc="left", fontsize=7.5, pad=3)
        note = f"\n({edges[arm, key]} tried)" if (arm, key) in edges else ""
        axes.set_xlabel(key.rpartition(".")[2] + note, labelpad=1, va="top")
        axes.yaxis.set_major_locator(MaxNLocator(3))
        if panels.index((arm, key)) % columns == 0:
            axes.set_ylabel(title_of(sweep.metric, unit), fontsize=6.5, labelpad=2)
    for axes in axes_of[len(panels) :]:
        axes.remove()
    return figure


def _mark(axes: Axes, row: Any, look: Look) -> None:
    """A draw: filled if it completed, open if it was stopped or has not ended, a cross at the foot if it came
    to no value."""
    if not np.isfinite(row.y):
        axes.plot([row.x], [axes.get_ylim()[0]], "x", color=look.color, clip_on=False)
        return
    fill = look.color if row.status == "completed" else "none"
    axes.plot([row.x], [row.y], look.marker, color=look.color, mfc=fill, ms=4, mew=0.9)
    if row.chosen:
        axes.plot([row.x], [row.y], "o", color=INK, mfc="none", ms=9, mew=0.9)


def _places(axes: Axes, values: pd.Series, logarithmic: bool) -> Any:
    """Scale the x axis for these values; returns where one stands. What is no number stands in order."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        names = list(dict.fromkeys(map(str, values)))
        axes.set_xticks(range(len(names)), [short(name, 8) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
        return lambda value: names.index(str(value))
    low, high = float(values.min()), float(values.max())
    if logarithmic and low > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low or 1) ** 0.12 / 1.02, high * (high / low or 1) ** 0.12 * 1.02)
        axes.xaxis.set_major_locator(FixedLocator(_decades(*axes.get_xlim())))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        pad = 0.12 * (high - low or 1.0)
        axes.set_xlim(low - pad, high + pad)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    return float


def _decades(low: float, high: float) -> list[float]:
    """Two or three ticks of a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for parts in ((1,), (1, 5), (1, 2, 5)):
        if len(found) < 2:
            ticks = (part * 10.0**power for power in powers for part in parts)
            found = [tick for tick in ticks if low <= tick <= high]
    return found[:: math.ceil(len(found) / 3) or 1]


def _tick(value: float) -> str:
    """0.004 -> "0.004", 0.0001 -> "1e-4": as short as it can be."""
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:g}"
    return si(value) if abs(value) >= 1e3 else f"{value:.0e}".replace("e-0", "e-").replace("-", "−")


def _arms(sweep: Sweep) -> list[str]:
    tried = set(draws(sweep)["arm"])
    return [arm for arm in arms_in_order(sweep, MOST) if arm in tried]


def _caption(sweep: Sweep) -> str:
    keys, unit = tuned(sweep), sweep.unit(sweep.metric)
    rest = f" Not drawn: {join(keys[KEYS:])}." if keys[KEYS:] else ""
    return (
        f"Draws of the search: {title_of(sweep.metric, unit)} by {join([name_of(k) for k in keys[:KEYS]])}. "
        "Filled: completed; open: stopped, at its last value; cross: without a value; ringed: chosen. "
        f'"Lowest tried" or "highest tried": the choice is at the edge, and a better value may lie beyond.'
        f"{rest}{drawn_of(sweep)}"
    )


PLOTS = (
    Plot(
        "slices",
        "Tuning",
        _caption,
        slices,
        lambda sweep: bool(tuned(sweep)) and bool(draws(sweep)["value"].notna().any()),
        panels=True,
    ),
)
