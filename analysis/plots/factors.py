"""What the factors do: the effect of each level, and how two factors work together."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.contrasts import cells, crossed, effects, levels_in
from analysis.load import Sweep, records
from analysis.plots.look import (
    INK,
    draw_whiskers,
    label_ends,
    looks_of,
    make_axes,
    make_column,
    short,
    styled,
    titled,
)
from analysis.units import name_of, title_of, unit_of

PANELS = 3  # pairs of factors that are drawn


@styled
def factor_effects(sweep: Sweep) -> Figure:
    """A row a level: the mean difference to its factor's reference level (open circle), its 95% interval."""
    metric = sweep.test_metric or sweep.metric
    unit, found = unit_of(metric), effects(sweep, metric)
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
        low, high = row.low * unit.factor, row.high * unit.factor
        axes.plot([low, high], [y, y], color=INK, lw=1.4)
        axes.plot([row.mean * unit.factor], [y], "o", color=INK)
    axes.plot([0] * len(heads), [y + 1 for y in heads], "o", color=INK, mfc="none")
    axes.set_yticks(range(len(labels)), [short(label) for label in labels])
    for y in heads:
        axes.get_yticklabels()[y].set_fontweight("bold")
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    suffix = f" ({unit.difference})" if unit.difference else ""
    axes.set_xlabel(f"difference in {name_of(metric)}{suffix}", loc="right")
    return figure


@styled
def interactions(sweep: Sweep) -> Figure:
    """For each two crossed factors: a line a level of the one over the levels of the other, mean and 95%
    interval over seeds. Where lines do not run alike, one factor's effect depends on the other's level."""
    metric = sweep.test_metric or sweep.metric
    unit, pairs = unit_of(metric), crossed(sweep)[:PANELS]
    names = [level for _, b in pairs for level in levels_in(sweep, b)]
    figure, panels = make_column(len(pairs), 2.3, names)
    for axes, (a, b) in zip(panels, pairs, strict=True):
        found = cells(sweep, a, b, metric).dropna(subset=["mean"])
        places = {level: i for i, level in enumerate(dict.fromkeys(found["level_a"]))}
        lines = levels_in(sweep, b)
        how = dict(zip(lines, looks_of(len(lines)), strict=True))
        ends = {}
        for i, level in enumerate(lines):
            rows = found[found["level_b"] == level]
            if rows.empty:
                continue
            x = rows["level_a"].map(places) + (i - (len(lines) - 1) / 2) * 0.05  # apart, to tell them
            draw_whiskers(axes, x, rows, how[level], unit.factor)
            ends[level] = (float(x.iloc[-1]), float(rows["mean"].iloc[-1]) * unit.factor)
        axes.set_xticks(range(len(places)), [short(level, 14) for level in places])
        axes.set_xlim(-0.35, len(places) - 0.65)
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(a)
        titled(axes, f"{title_of(metric)}, a line a level of {b}")
        label_ends(axes, ends, how)
    return figure
