"""What each factor does: the effect of each level, all else equal."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.compare.claims import claims_of, rule_of
from analysis.explain.asked import asked
from analysis.explain.effects import effects
from analysis.figures.plot import INTERVAL, Plot
from analysis.figures.style import INK, Look, draw_values, make_axes, short, styled
from analysis.format import name_of
from analysis.sweep import Sweep, records


def _claimed(sweep: Sweep) -> dict[str, tuple[float, float]]:
    """The intervals of the effects that the sweep asked for, by "factor=level"; {} if it asked for none."""
    if sweep.is_exploratory or rule_of(sweep).question != "effects":
        return {}
    return {row.arm: (row.low, row.high) for row in asked(sweep, claims_of(sweep))}


def _interval(sweep: Sweep) -> str:
    return "interval as in the table of what was asked" if _claimed(sweep) else INTERVAL


@styled
def factor_effects(sweep: Sweep) -> Figure:
    """A row a level: the mean difference to its factor's reference level (open circle), its 95% interval or,
    under question effects, that of the claim."""
    metric = sweep.shown_metric
    unit, found = sweep.unit(metric), effects(sweep, metric)
    found = found[found["n"] > 0]
    claimed = _claimed(sweep)
    labels: list[str] = []
    heads, places = [], []
    for factor, rows in found.groupby("factor", sort=False):
        heads.append(len(labels))
        labels += [str(factor), rows["reference"].iloc[0]]
        for row in records(rows):
            places.append((len(labels), row))
            labels.append(row.level)
    figure, axes = make_axes(0.72 + 0.22 * len(labels), [], left=labels)
    axes.axvline(0, color=INK, lw=0.8)
    for y, row in places:
        ends = claimed.get(f"{row.factor}={row.level}", (row.low, row.high))
        low, high = (end * unit.factor for end in ends)
        axes.plot([low, high], [y, y], color=INK, lw=1.4)
        if np.isnan(low):
            values = [value * unit.factor for value in row.values]
            draw_values(axes, y + 0.25, values, Look(INK, "o", "-"), across=True)
        axes.plot([row.effect * unit.factor], [y], "o", color=INK)
    axes.plot([0] * len(heads), [y + 1 for y in heads], "o", color=INK, mfc="none")
    axes.set_yticks(range(len(labels)), [short(label) for label in labels])
    for y in heads:
        axes.get_yticklabels()[y].set_fontweight("bold")
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    suffix = unit.difference_suffix
    axes.set_xlabel(f"difference in {name_of(metric)}{suffix}", loc="right")
    return figure


PLOTS = (
    Plot(
        "effects",
        "Factors",
        lambda sweep: (
            f"What changing a factor from its reference level does to "
            f"{name_of(sweep.shown_metric)}, all else equal: "
            f"mean difference, {_interval(sweep)}. Open circles: the reference levels."
        ),
        factor_effects,
        lambda sweep: len(sweep.factors) > 1 and bool((effects(sweep)["n"] > 0).any()),
    ),
)
