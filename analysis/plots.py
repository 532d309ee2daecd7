"""The figures, one function each: a Sweep in, a matplotlib Figure out; no global state of pyplot is touched.

Colours are Okabe and Ito's, told apart by colour-blind readers; markers and line styles tell arms apart in
black and white. The baseline is drawn in the ink of the text. Widths are those of a paper's column (3.5 in).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from analysis.load import Sweep, records
from analysis.stats import counted_trials, rank_arms, seed_table
from analysis.units import si, title_of, unit_of

INK = "#1b1b1d"  # the report turns this very colour into the page's text colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
LINES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)))
COLUMN = 3.5  # inches
LABEL = 7.5  # points
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "axes.grid": True, "axes.axisbelow": True, "grid.color": INK, "grid.alpha": 0.12,
    "grid.linewidth": 0.5, "lines.linewidth": 1.4, "lines.markersize": 4.5, "text.color": INK,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "figure.facecolor": "white", "axes.facecolor": "none", "savefig.facecolor": "white",
    "text.parse_math": False, "figure.dpi": 150, "svg.fonttype": "none", "svg.hashsalt": "figure",
}  # fmt: skip

P = ParamSpec("P")


@dataclass(frozen=True)
class Look:
    """How an arm is drawn, in every figure alike."""

    color: str
    marker: str
    line: Any


def looks(sweep: Sweep) -> dict[str, Look]:
    """The baseline in ink; the other arms by their place in the plan, not by their rank."""
    others = [arm for arm in sweep.arms if arm != sweep.baseline]
    found = {sweep.baseline: Look(INK, "o", "-")}
    for i, arm in enumerate(others):
        line = LINES[(i + 1) % len(LINES)]
        found[arm] = Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], line)
    return found


def style() -> AbstractContextManager[None]:
    """The figures' settings, in force inside `with style():` and undone after it."""
    return mpl.rc_context(STYLE)


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return inner


@_styled
def learning_curves(sweep: Sweep, metric: str | None = None, over: str = "samples") -> Figure:
    """`metric` (default: the objective) over `samples` or `flops`.

    A line is the mean of an arm's completed trials, its band their range over seeds. A trial that was
    stopped or diverged is a thin line of its own, up to a cross: it is never averaged with the completed
    ones.
    """
    metric = metric or sweep.metric
    unit, how = unit_of(metric), looks(sweep)
    table = sweep.history.dropna(subset=[over]).assign(y=lambda rows: rows[metric] * unit.factor)
    table = table[np.isfinite(table["y"])]
    counted = counted_trials(sweep)
    labels = [arm for arm in sweep.arms if arm in set(sweep.trials["arm"])]
    figure, axes = _axes(2.5 + 0.14 * max(0, len(labels) - 10), labels)
    ends = {}
    for arm in labels:
        mine = counted.loc[counted["arm"] == arm, "trial_id"]
        curve = _seed_curve(table[table["trial_id"].isin(mine)], over)
        if len(curve):
            axes.fill_between(curve[over], curve["min"], curve["max"], color=how[arm].color, alpha=0.18, lw=0)
            axes.plot(curve[over], curve["mean"], color=how[arm].color, ls=how[arm].line)
            axes.plot(curve[over].iloc[-1:], curve["mean"].iloc[-1:], how[arm].marker, color=how[arm].color)
            ends[arm] = (curve[over].iloc[-1], curve["mean"].iloc[-1])
        last = _draw_unfinished(axes, sweep, arm, table, over, how[arm])
        if arm not in ends and last:
            ends[arm] = last
    _finish_x(axes, "training FLOPs" if over == "flops" else "training samples")
    _label_ends(axes, ends, how)
    return _titled(figure, axes, title_of(metric))


def _seed_curve(rows: pd.DataFrame, over: str) -> pd.DataFrame:
    """Mean, least and greatest y over trials, at the reports which every one of these trials has."""
    steps = rows.groupby("step")
    curve = steps["y"].agg(["mean", "min", "max", "count"]).assign(**{over: steps[over].mean()})
    return curve[curve["count"] == rows["trial_id"].nunique()].sort_values(over)


def _draw_unfinished(
    axes: Axes, sweep: Sweep, arm: str, table: pd.DataFrame, over: str, look: Look
) -> tuple[float, float] | None:
    """Stopped and diverged trials of the phase shown, each alone. Returns where the farthest one ends."""
    phases = set(counted_trials(sweep)["phase"]) or {"search", "evidence"}
    chosen = (sweep.trials["arm"] == arm) & sweep.trials["status"].isin(["pruned", "diverged"])
    ends = []
    for trial in records(sweep.trials[chosen & sweep.trials["phase"].isin(phases)]):
        rows = table[table["trial_id"] == trial.trial_id].sort_values(over)
        if len(rows):
            axes.plot(rows[over], rows["y"], color=look.color, ls=look.line, lw=0.7, alpha=0.8)
            axes.plot(rows[over].iloc[-1:], rows["y"].iloc[-1:], "x", color=look.color, mew=1.3)
            ends.append((float(rows[over].iloc[-1]), float(rows["y"].iloc[-1])))
    return max(ends, default=None)


@_styled
def accuracy_against_params(sweep: Sweep) -> Figure:
    """The objective of every arm that has a value, with its 95% interval, against its parameters."""
    unit, how = unit_of(sweep.metric), looks(sweep)
    ranked = rank_arms(sweep).dropna(subset=["mean", "num_params"])
    figure, axes = _axes(2.5 + 0.14 * max(0, len(ranked) - 10), list(ranked["arm"]))
    axes.margins(x=0.08, y=0.12)
    ends = {}
    for row in records(ranked):
        look, y = how[row.arm], row.mean * unit.factor
        low, high = unit.factor * row.low, unit.factor * row.high
        axes.plot([row.num_params] * 2, [low, high], color=look.color, lw=1.1, alpha=0.7)
        axes.plot([row.num_params], [y], look.marker, color=look.color, ms=6)
        ends[row.arm] = (row.num_params, y)
    if len(ranked) and ranked["num_params"].max() > 4 * ranked["num_params"].min():
        axes.set_xscale("log")
    _finish_x(axes, "parameters")
    _label_ends(axes, ends, how)
    return _titled(figure, axes, title_of(sweep.metric))


@_styled
def ranked_intervals(sweep: Sweep) -> Figure:
    """The arms, best first: every seed's value as a small open mark, mean and 95% interval beside it."""
    metric = sweep.test_metric or sweep.metric
    prefix = "test_" if sweep.test_metric else ""
    unit, how = unit_of(metric), looks(sweep)
    ranked, seeds = rank_arms(sweep), seed_table(sweep, metric) * unit.factor
    ranked = ranked[ranked[f"{prefix}n"] > 0]
    figure, axes = _axes(0.75 + 0.32 * max(len(ranked), 1), [], left=list(ranked["arm"]))
    for y, (_, row) in enumerate(ranked.iterrows()):
        look, values = how[row["arm"]], seeds[row["arm"]].dropna()
        low, high = unit.factor * row[f"{prefix}low"], unit.factor * row[f"{prefix}high"]
        axes.plot([low, high], [y, y], color=look.color, lw=1.6)
        axes.plot(values, np.full(len(values), y + 0.27), "o", mfc="none", mec=look.color, ms=3, mew=0.8)
        axes.plot([row[f"{prefix}mean"] * unit.factor], [y], look.marker, color=look.color, ms=6)
    axes.set_yticks(range(len(ranked)), [_short(arm) for arm in ranked["arm"]])
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(title_of(metric))
    return figure


@_styled
def stopped_trials(sweep: Sweep) -> Figure:
    """A line a trial, as far as it trained, to a mark that says how it ended.

    Dot: completed; cross: stopped; triangle: diverged or failed; bar: unfinished. Dotted verticals are the
    rungs at which the scheduler decided.
    """
    how = looks(sweep)
    shown = sweep.trials[sweep.trials["samples"].notna()]
    arms = [arm for arm in sweep.arms if arm in set(shown["arm"])]
    figure, axes = _axes(min(0.85 + 0.36 * len(arms) + 0.03 * len(shown), 7), [], left=arms)
    for rung in sorted(sweep.decisions["rung"].dropna().unique()):
        axes.axvline(rung, color=INK, lw=0.6, ls=":", alpha=0.6)
    marks = {"completed": "o", "pruned": "x", "diverged": "^", "failed": "^"}
    for place, arm in enumerate(arms):
        mine = shown[shown["arm"] == arm].sort_values("samples", ascending=False)
        offsets = np.linspace(-0.3, 0.3, len(mine)) if len(mine) > 1 else np.zeros(1)
        for y, trial in zip(place + offsets, records(mine), strict=True):
            color, mark = how[arm].color, marks.get(trial.status, "|")
            axes.plot([0, trial.samples], [y, y], color=color, lw=0.9, alpha=0.75)
            axes.plot([trial.samples], [y], mark, color=color, ms=3.8, mew=1.3, clip_on=False)
    axes.set_yticks(range(len(arms)), [_short(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    _finish_x(axes, "training samples")
    return figure


# Parts


def _axes(height: float, right: Sequence[str], left: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """Axes one column wide. `right` and `left` are labels outside them, for which room is kept."""
    figure = Figure(figsize=(COLUMN, height))
    room, margin = _width(right) + 0.2, max(_width(left), 0.25) + 0.18
    top = 0.08 if left else 0.28  # of the title
    size = (1 - (margin + room) / COLUMN, 1 - (0.42 + top) / height)
    axes = figure.add_axes((margin / COLUMN, 0.42 / height, *size))
    return figure, axes


def _height(axes: Axes) -> float:
    """Of the axes, in inches."""
    return float(axes.get_window_extent().height / axes.figure.dpi)


def _width(labels: Sequence[str]) -> float:
    """Of the widest label, in inches."""
    paths = (TextPath((0, 0), _short(label), size=LABEL) for label in labels)
    return max((float(path.get_extents().width) / 72 for path in paths), default=0.0)


def _titled(figure: Figure, axes: Axes, title: str) -> Figure:
    """The y axis is named above it, where it is read without turning one's head."""
    axes.text(0.02, 0.98, title, transform=figure.transFigure, va="top", ha="left", fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure


def _finish_x(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    linear = axes.get_xscale() == "linear"
    axes.xaxis.set_major_locator(MaxNLocator(5) if linear else LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _label_ends(axes: Axes, ends: dict[str, tuple[float, float]], how: dict[str, Look]) -> None:
    """Each curve's arm, right of the axes at the height of its end, moved apart where they would touch."""
    if not ends:
        return
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    gap = 0.135 / _height(axes) * (high - low)
    for arm, place in zip(ends, _spread([y for _, y in ends.values()], gap, high), strict=True):
        axes.annotate(
            _short(arm), ends[arm], (1.02, (place - low) / (high - low)), textcoords="axes fraction",
            va="center", fontsize=LABEL, color=how[arm].color, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": how[arm].color, "alpha": 0.5, "shrinkB": 4},
        )  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _spread(places: Sequence[float], gap: float, high: float) -> np.ndarray:
    """Places moved so that neighbours are `gap` apart, from the top down where they would pass `high`."""
    order = np.argsort(places, kind="stable")
    out = np.asarray(places, dtype=float)[order]
    for i in range(1, len(out)):
        out[i] = max(out[i], out[i - 1] + gap)
    out = out - max(0.0, out[-1] - high)
    for i in range(len(out) - 2, -1, -1):
        out[i] = min(out[i], out[i + 1] - gap)
    result = np.empty(len(out))
    result[order] = out
    return result


def _short(label: str, length: int = 24) -> str:
    """A long name without its middle: arms of one mixer differ at the end."""
    return label if len(label) <= length else f"{label[: length // 2 - 3]}…{label[-length // 2 - 2 :]}"
