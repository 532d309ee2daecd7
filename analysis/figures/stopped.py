"""Where trials were stopped."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.compare.ranking import arms_in_order
from analysis.figures.plot import Plot
from analysis.figures.style import INK, MOST, drawn_of, finish_x, looks, make_axes, short, styled
from analysis.format import AMOUNTS
from analysis.sweep import Sweep, records


@styled
def stopped_trials(sweep: Sweep) -> Figure:
    """A line a trial that could be stopped, as far as it trained, to a mark that says how it ended.

    Dot: completed; cross: stopped; triangle: diverged or failed; bar: unfinished. Dotted verticals are the
    rungs at which the scheduler decided.
    """
    how = looks(sweep)
    over = sweep.judged_over
    shown = sweep.trials[sweep.trials[over].notna() & (sweep.trials["phase"] == "search")]
    arms = [arm for arm in arms_in_order(sweep, MOST) if arm in set(shown["arm"])]
    shown = shown[shown["arm"].isin(arms)]
    figure, axes = make_axes(min(0.85 + 0.36 * len(arms) + 0.03 * len(shown), 7), [], left=arms)
    for rung in sorted(sweep.decisions["rung"].dropna().unique()):
        axes.axvline(rung, color=INK, lw=0.6, ls=":", alpha=0.6)
    marks = {"completed": "o", "pruned": "x", "diverged": "^", "failed": "^"}
    for place, arm in enumerate(arms):
        mine = shown[shown["arm"] == arm].sort_values(over, ascending=False)
        offsets = np.linspace(-0.3, 0.3, len(mine)) if len(mine) > 1 else np.zeros(1)
        for y, trial in zip(place + offsets, records(mine), strict=True):
            color, mark, end = how[arm].color, marks.get(trial.status, "|"), getattr(trial, over)
            axes.plot([0, end], [y, y], color=color, lw=0.9)
            axes.plot([end], [y], mark, color=color, ms=3.8, mew=1.3, clip_on=False)
    axes.set_yticks(range(len(arms)), [short(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    finish_x(axes, f"training {AMOUNTS[over]}")
    return figure


PLOTS = (
    Plot(
        "stopped",
        "Stopped early",
        lambda sweep: (
            "Every trial of the search as far as it trained. Dot: completed; cross: stopped; triangle: "
            f"diverged or failed; bar: unfinished. Dotted: rungs at which a decision fell.{drawn_of(sweep)}"
        ),
        stopped_trials,
        lambda sweep: bool((sweep.trials["status"] == "pruned").any()),
    ),
)
