"""How arms learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.ranking import counted_trials
from analysis.figures.plot import Plot
from analysis.figures.style import Look, draw_band, finish_x, label_ends, looks, make_axes, styled, titled
from analysis.format import AMOUNTS, name_of, title_of
from analysis.stopping.audit import judged_metric, judged_over
from analysis.sweep import Sweep, records

TITLE = "Learning curves"


@styled
def learning_curves(sweep: Sweep, metric: str | None = None, over: str = "samples") -> Figure:
    """`metric` (default: the objective) over `samples` or `flops`.

    A line is the mean of an arm's completed trials, its band their range over seeds. A trial that was
    stopped or diverged is a thin line of its own, up to a cross: it is never averaged with the completed
    ones.
    """
    metric = metric or sweep.metric
    unit, how = sweep.unit(metric), looks(sweep)
    table = sweep.history.dropna(subset=[over]).assign(y=lambda rows: rows[metric] * unit.factor)
    table = table[np.isfinite(table["y"])]
    counted = counted_trials(sweep)
    labels = [arm for arm in sweep.arms if arm in set(sweep.trials["arm"])]
    figure, axes = make_axes(2.5 + 0.14 * max(0, len(labels) - 10), labels)
    ends = {}
    for arm in labels:
        mine = counted.loc[counted["arm"] == arm, "trial_id"]
        curve = _seed_curve(table[table["trial_id"].isin(mine)], over)
        if len(curve):
            draw_band(axes, curve, over, how[arm], 1, len(labels))
            axes.plot(curve[over].iloc[-1:], curve["mean"].iloc[-1:], how[arm].marker, color=how[arm].color)
            ends[arm] = (curve[over].iloc[-1], curve["mean"].iloc[-1])
        last = _draw_unfinished(axes, sweep, arm, table, over, how[arm])
        if arm not in ends and last:
            ends[arm] = last
    finish_x(axes, f"training {AMOUNTS[over]}")
    label_ends(axes, ends, how)
    titled(axes, title_of(metric, unit))
    return figure


def _seed_curve(rows: pd.DataFrame, over: str) -> pd.DataFrame:
    """Mean, least (low) and greatest (high) y over trials, at the reports that all of these trials have."""
    steps = rows.groupby("step")
    curve = (
        steps["y"].agg(mean="mean", low="min", high="max", count="count").assign(**{over: steps[over].mean()})
    )
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


def _has_curve(sweep: Sweep, metric: str, over: str) -> bool:
    history = sweep.history
    return metric in history and bool((history[metric].notna() & history[over].notna()).any())


PLOTS = (
    Plot(
        "curve_samples",
        TITLE,
        lambda sweep: f"{name_of(sweep.metric).capitalize()} over samples.",
        learning_curves,
        lambda sweep: _has_curve(sweep, sweep.metric, "samples"),
    ),
    Plot(
        "curve_flops",
        TITLE,
        lambda sweep: f"{name_of(sweep.metric).capitalize()} over training FLOPs.",
        lambda sweep: learning_curves(sweep, over="flops"),
        lambda sweep: _has_curve(sweep, sweep.metric, "flops"),
    ),
    Plot(
        "curve_judged",
        TITLE,
        lambda sweep: (
            f"{name_of(judged_metric(sweep)).capitalize()}, by which trials are judged, over "
            f"{AMOUNTS[judged_over(sweep)]}."
        ),
        lambda sweep: learning_curves(sweep, judged_metric(sweep), judged_over(sweep)),
        lambda sweep: (
            judged_metric(sweep) != sweep.metric
            and _has_curve(sweep, judged_metric(sweep), judged_over(sweep))
        ),
    ),
)
