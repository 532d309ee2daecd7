"""How arms learn, and where trials were stopped."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.ranking import counted_trials
from analysis.figures.style import (
    INK,
    Look,
    draw_band,
    finish_x,
    label_ends,
    looks,
    make_axes,
    short,
    styled,
    titled,
)
from analysis.format import title_of, unit_of
from analysis.sweep import Sweep, records


@styled
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
    finish_x(axes, "training FLOPs" if over == "flops" else "training samples")
    label_ends(axes, ends, how)
    titled(axes, title_of(metric))
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


@styled
def stopped_trials(sweep: Sweep) -> Figure:
    """A line a trial, as far as it trained, to a mark that says how it ended.

    Dot: completed; cross: stopped; triangle: diverged or failed; bar: unfinished. Dotted verticals are the
    rungs at which the scheduler decided.
    """
    how = looks(sweep)
    shown = sweep.trials[sweep.trials["samples"].notna()]
    arms = [arm for arm in sweep.arms if arm in set(shown["arm"])]
    figure, axes = make_axes(min(0.85 + 0.36 * len(arms) + 0.03 * len(shown), 7), [], left=arms)
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
    axes.set_yticks(range(len(arms)), [short(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    finish_x(axes, "training samples")
    return figure
