"""How arms learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.ranking import arms_in_order, counted_trials
from analysis.figures.plot import INTERVAL, Plot
from analysis.figures.style import (
    MOST,
    Look,
    draw_band,
    drawn_of,
    finish_x,
    label_ends,
    looks,
    make_axes,
    styled,
    titled,
)
from analysis.format import AMOUNTS, Unit, name_of, title_of
from analysis.inference.intervals import MIN_FOR_INTERVAL, mean_interval
from analysis.sweep import Sweep, records

TITLE = "Learning curves"


@styled
def learning_curves(sweep: Sweep, metric: str | None = None, over: str = "samples") -> Figure:
    """`metric` (default: the objective) over `samples` or `flops`.

    A line is the mean of an arm's completed trials, its band the 95% interval over seeds; below four seeds
    each is a thin line. A trial that was stopped or diverged is a thin line of its own, up to a cross: it is
    never averaged with the completed ones.
    """
    metric = metric or sweep.metric
    unit, how = sweep.unit(metric), looks(sweep)
    table = sweep.history.dropna(subset=[over]).assign(y=lambda rows: rows[metric] * unit.factor)
    table = table[np.isfinite(table["y"])]
    counted, unfinished = counted_trials(sweep), _unfinished(sweep)
    labels = [arm for arm in arms_in_order(sweep, MOST) if arm in set(sweep.trials["arm"])]
    figure, axes = make_axes(2.5, labels)
    ends = {}
    for arm in labels:
        mine = counted.loc[counted["arm"] == arm, "trial_id"]
        rows = table[table["trial_id"].isin(mine)]
        curve = _seed_curve(rows, over, unit)
        if len(curve):
            if len(mine) < MIN_FOR_INTERVAL:
                for _, seed in rows.groupby("trial_id"):
                    _thin(axes, seed, over, how[arm])
            draw_band(axes, curve, over, how[arm], 1, len(labels))
            axes.plot(curve[over].iloc[-1:], curve["mean"].iloc[-1:], how[arm].marker, color=how[arm].color)
            ends[arm] = (curve[over].iloc[-1], curve["mean"].iloc[-1])
        last = _draw_unfinished(axes, unfinished[unfinished["arm"] == arm], table, over, how[arm])
        if arm not in ends and last:
            ends[arm] = last
    finish_x(axes, f"training {AMOUNTS[over]}")
    label_ends(axes, ends, how)
    titled(axes, title_of(metric, unit))
    return figure


def _seed_curve(rows: pd.DataFrame, over: str, unit: Unit) -> pd.DataFrame:
    """Mean y over trials with its interval (low, high), at the reports that all of these trials have."""
    steps, limits = rows.groupby("step"), (unit.limits[0] * unit.factor, unit.limits[1] * unit.factor)
    curve = steps["y"].agg(mean="mean", count="count").assign(**{over: steps[over].mean()})
    found = [mean_interval(values.to_numpy()).cut(limits) for _, values in steps["y"]]
    enough = curve["count"] >= MIN_FOR_INTERVAL
    curve["low"] = pd.Series([each.low for each in found], curve.index, dtype=float).where(enough)
    curve["high"] = pd.Series([each.high for each in found], curve.index, dtype=float).where(enough)
    return curve[curve["count"] == rows["trial_id"].nunique()].sort_values(over)


def _unfinished(sweep: Sweep) -> pd.DataFrame:
    """The stopped and diverged trials of the phase shown."""
    phases = set(counted_trials(sweep)["phase"]) or {"search", "evidence"}
    stopped = sweep.trials["status"].isin(["pruned", "diverged"])
    return sweep.trials[stopped & sweep.trials["phase"].isin(phases)]


def _draw_unfinished(
    axes: Axes, trials: pd.DataFrame, table: pd.DataFrame, over: str, look: Look
) -> tuple[float, float] | None:
    """An arm's stopped and diverged trials, each alone. Returns where the farthest one ends."""
    ends = []
    for trial in records(trials):
        rows = table[table["trial_id"] == trial.trial_id].sort_values(over)
        if len(rows):
            _thin(axes, rows, over, look)
            axes.plot(rows[over].iloc[-1:], rows["y"].iloc[-1:], "x", color=look.color, mew=1.3)
            ends.append((float(rows[over].iloc[-1]), float(rows["y"].iloc[-1])))
    return max(ends, default=None)


def _thin(axes: Axes, rows: pd.DataFrame, over: str, look: Look) -> None:
    """A single trial."""
    axes.plot(rows[over], rows["y"], color=look.color, ls=look.line, lw=0.6)


def _caption(sweep: Sweep, metric: str, over: str) -> str:
    judged = ", by which trials are judged," if metric != sweep.metric else ""
    return (
        f"{name_of(metric).capitalize()}{judged} over training {AMOUNTS[over]}: mean of the completed "
        f"trials and {INTERVAL}.{drawn_of(sweep)}"
    )


def _has_curve(sweep: Sweep, metric: str, over: str) -> bool:
    history = sweep.history
    return metric in history and bool((history[metric].notna() & history[over].notna()).any())


PLOTS = (
    Plot(
        "curve_samples",
        TITLE,
        lambda sweep: _caption(sweep, sweep.metric, "samples"),
        learning_curves,
        lambda sweep: _has_curve(sweep, sweep.metric, "samples"),
    ),
    Plot(
        "curve_flops",
        TITLE,
        lambda sweep: _caption(sweep, sweep.metric, "flops"),
        lambda sweep: learning_curves(sweep, over="flops"),
        lambda sweep: _has_curve(sweep, sweep.metric, "flops"),
    ),
    Plot(
        "curve_judged",
        TITLE,
        lambda sweep: _caption(sweep, sweep.judged_metric, sweep.judged_over),
        lambda sweep: learning_curves(sweep, sweep.judged_metric, sweep.judged_over),
        lambda sweep: (
            sweep.judged_metric != sweep.metric and _has_curve(sweep, sweep.judged_metric, sweep.judged_over)
        ),
    ),
)
