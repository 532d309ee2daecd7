"""Accuracy by how hard a puzzle is."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.compare.ranking import arms_in_order
from analysis.figures.plot import INTERVAL, Plot
from analysis.figures.style import MOST, draw_whiskers, drawn_of, label_ends, looks, make_axes, styled, titled
from analysis.format import title_of
from analysis.sweep import Sweep
from analysis.trm_metrics import by_rating

METRIC = "test/exact_accuracy"


@styled
def accuracy_by_rating(sweep: Sweep) -> Figure:
    """Exact accuracy on puzzles of each rating, mean and 95% interval over seeds."""
    found, how, unit = by_rating(sweep), looks(sweep), sweep.unit(METRIC)
    arms = [arm for arm in arms_in_order(sweep, MOST) if arm in set(found["arm"])]
    buckets = {rating: place for place, rating in enumerate(dict.fromkeys(found["rating"]))}
    counts = found.groupby("rating")["rows"].max()
    figure, axes = make_axes(2.6, arms, below=0.52)
    ends = {}
    for i, arm in enumerate(arms):
        rows = found[found["arm"] == arm]
        x = rows["rating"].map(buckets) + (i - (len(arms) - 1) / 2) * min(0.05, 0.3 / len(arms))
        draw_whiskers(axes, x, rows, how[arm], unit.factor)
        ends[arm] = (float(x.iloc[-1]), float(rows["mean"].iloc[-1]) * unit.factor)
    axes.set_xticks(range(len(buckets)), [f"{rating}\n({counts[rating]:,})" for rating in buckets])
    axes.set_xlim(-0.4, len(buckets) - 0.6)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("rating (puzzles of test)", labelpad=1)
    label_ends(axes, ends, how)
    titled(axes, title_of(METRIC, unit))
    return figure


PLOTS = (
    Plot(
        "rating",
        "Beyond one number",
        lambda sweep: f"Test exact accuracy by how hard a puzzle is, mean and {INTERVAL}.{drawn_of(sweep)}",
        accuracy_by_rating,
        lambda sweep: by_rating(sweep)["rating"].nunique() > 1,
    ),
)
