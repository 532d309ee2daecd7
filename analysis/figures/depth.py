"""Accuracy over supervision steps."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.compare.ranking import arms_in_order
from analysis.figures.plot import INTERVAL, Plot
from analysis.figures.style import (
    INK,
    MOST,
    draw_band,
    draw_seeds,
    drawn_of,
    label_ends,
    looks,
    make_axes,
    styled,
    titled,
)
from analysis.format import title_of
from analysis.sweep import Sweep
from analysis.trm_metrics import depth_curve

METRIC = "test/exact_accuracy"


@styled
def plot_depth_curve(sweep: Sweep) -> Figure:
    """Exact accuracy after 1, 2, 4, ... supervision steps, mean and 95% interval over seeds; the dotted line
    is where training and evaluation end."""
    found, how, unit = depth_curve(sweep), looks(sweep), sweep.unit(METRIC)
    arms = [arm for arm in arms_in_order(sweep, MOST) if arm in set(found["arm"])]
    figure, axes = make_axes(2.5, arms)
    axes.set_xscale("log", base=2)
    trained = (sweep.resolved.get("identity") or {}).get("base", {}).get("model.halt_max_steps")
    if trained and "model.halt_max_steps" not in sweep.factors:
        axes.axvline(trained, color=INK, lw=0.7, ls=":", alpha=0.7)
    ends = {}
    for arm in arms:
        rows = found[found["arm"] == arm].sort_values("supervision_steps")
        draw_band(axes, rows, "supervision_steps", how[arm], unit.factor, len(arms))
        draw_seeds(axes, rows["supervision_steps"], rows, how[arm], unit.factor)
        ends[arm] = (float(rows["supervision_steps"].iloc[-1]), float(rows["mean"].iloc[-1]) * unit.factor)
    steps = sorted(step for step in set(found["supervision_steps"]) if step & (step - 1) == 0)
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("supervision steps")
    label_ends(axes, ends, how)
    titled(axes, title_of(METRIC, unit))
    return figure


PLOTS = (
    Plot(
        "depth",
        "Beyond one number",
        lambda sweep: (
            "Test exact accuracy of the checkpoint that val chose, after 1, 2, 4, ... supervision steps: "
            f"mean and {INTERVAL}. Dotted: where training and evaluation end.{drawn_of(sweep)}"
        ),
        plot_depth_curve,
        lambda sweep: len(depth_curve(sweep)) > 0,
    ),
)
