"""Beyond one number: accuracy over supervision steps and by rating, and how well halting is calibrated."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.figures.style import (
    INK,
    draw_band,
    draw_whiskers,
    label_ends,
    looks,
    make_axes,
    make_row,
    styled,
    titled,
)
from analysis.format import title_of, unit_of
from analysis.sweep import Sweep
from analysis.trm_metrics import by_rating, depth_curve, halting

METRIC = "test/exact_accuracy"
TITLES = {"q_auroc": "AUROC of q", "q_ece": "ECE of q", "solved_then_lost": "solved,\nthen lost (%)"}


@styled
def plot_depth_curve(sweep: Sweep) -> Figure:
    """Exact accuracy after 1, 2, 4, ... supervision steps, mean and 95% interval over seeds; the dotted line
    is where training and evaluation end."""
    found, how, unit = depth_curve(sweep), looks(sweep), unit_of(METRIC)
    arms = [arm for arm in sweep.arms if arm in set(found["arm"])]
    figure, axes = make_axes(2.5 + 0.14 * max(0, len(arms) - 10), arms)
    axes.set_xscale("log", base=2)
    trained = (sweep.resolved.get("identity") or {}).get("base", {}).get("model.halt_max_steps")
    if trained and "model.halt_max_steps" not in sweep.factors:
        axes.axvline(trained, color=INK, lw=0.7, ls=":", alpha=0.7)
    ends = {}
    for arm in arms:
        rows = found[found["arm"] == arm].sort_values("supervision_steps")
        draw_band(axes, rows, "supervision_steps", how[arm], unit.factor, len(arms))
        ends[arm] = (float(rows["supervision_steps"].iloc[-1]), float(rows["mean"].iloc[-1]) * unit.factor)
    steps = sorted(step for step in set(found["supervision_steps"]) if step & (step - 1) == 0)
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("supervision steps")
    label_ends(axes, ends, how)
    titled(axes, title_of(METRIC))
    return figure


@styled
def accuracy_by_rating(sweep: Sweep) -> Figure:
    """Exact accuracy on puzzles of each rating, mean and 95% interval over seeds."""
    found, how, unit = by_rating(sweep), looks(sweep), unit_of(METRIC)
    arms = [arm for arm in sweep.arms if arm in set(found["arm"])]
    buckets = {rating: place for place, rating in enumerate(dict.fromkeys(found["rating"]))}
    counts = found.groupby("rating")["rows"].max()
    figure, axes = make_axes(2.6 + 0.14 * max(0, len(arms) - 10), arms, below=0.52)
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
    titled(axes, title_of(METRIC))
    return figure


@styled
def halting_calibration(sweep: Sweep) -> Figure:
    """A row an arm: AUROC and expected calibration error of the halting value q as a prediction that a row is
    solved, and the share of rows solved after some step and not at the end; 95% intervals over seeds."""
    found, how = halting(sweep), looks(sweep)
    arms = [arm for arm in sweep.arms if arm in set(found["arm"])]
    measures = [measure for measure in TITLES if found[measure].notna().any()]
    figure, panels = make_row([TITLES[measure] for measure in measures], arms)
    for axes, measure in zip(panels, measures, strict=True):
        columns = [measure, f"{measure}_low", f"{measure}_high"]
        rows = found.set_index("arm")[columns].astype(float) * unit_of(measure).factor
        for y, arm in enumerate(arms):
            mean, low, high = rows.loc[arm].to_numpy()
            axes.plot([low, high], [y, y], color=how[arm].color, lw=1.4)
            axes.plot([mean], [y], how[arm].marker, color=how[arm].color)
        axes.xaxis.set_major_locator(MaxNLocator(2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure
