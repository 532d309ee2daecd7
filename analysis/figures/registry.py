"""The table of figures. The page, the exported files and MLflow's artifacts all come from it: a new figure
is a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis import figures as plots
from analysis import trm_metrics as depth
from analysis.explain.effects import effects
from analysis.figures.factors import crossed_pairs
from analysis.figures.ranking import costs
from analysis.format import name_of
from analysis.sweep import Sweep

INTERVAL = "95% interval over seeds"


@dataclass(frozen=True)
class Plot:
    """`name` is its file's; `title` the section of the page that it stands in; `caption` says what it shows;
    it is drawn where it `applies`."""

    name: str
    title: str
    caption: Callable[[Sweep], str]
    draw: Callable[[Sweep], Figure]
    applies: Callable[[Sweep], bool]


@dataclass(frozen=True)
class Drawn:
    """A figure of one sweep."""

    name: str
    title: str
    caption: str
    figure: Figure


def draw_all(sweep: Sweep) -> list[Drawn]:
    """Every figure of PLOTS that applies to the sweep, in their order."""
    return [
        Drawn(plot.name, plot.title, plot.caption(sweep), plot.draw(sweep))
        for plot in PLOTS
        if plot.applies(sweep)
    ]


def _claimed(sweep: Sweep) -> str:
    return name_of(sweep.test_metric or sweep.metric)


def _judged(sweep: Sweep) -> str:
    """What the scheduler looked at."""
    return str((sweep.space.get("scheduler") or {}).get("metric") or sweep.metric)


def _has_curve(sweep: Sweep, metric: str, over: str) -> bool:
    history = sweep.history
    return metric in history and bool((history[metric].notna() & history[over].notna()).any())


def _differ(sweep: Sweep, cost: str) -> bool:
    """Whether the arms that have a value differ in what they cost: at one cost the ranking says it all."""
    return costs(sweep, cost)[cost].nunique() > 1


def _pareto(sweep: Sweep) -> str:
    return (
        f"Mean {name_of(sweep.metric)}, {INTERVAL}; completed trials only. Dashed: the Pareto front of the "
        "means; filled marks lie on it: no other arm is both cheaper and better."
    )


def _depth(sweep: Sweep) -> str:
    return (
        "Test exact accuracy of the checkpoint that val chose, after 1, 2, 4, ... supervision steps: mean "
        f"and {INTERVAL}. Dotted: where training and evaluation end."
    )


PLOTS = (
    Plot(
        "ranking", "Ranking",
        lambda sweep: f"Mean {_claimed(sweep)}, {INTERVAL}, and each seed (open circles).",
        plots.ranked_intervals, lambda sweep: True,
    ),
    Plot(
        "effects", "Effect of each factor",
        lambda sweep: (
            f"What changing a factor from its reference level does to {_claimed(sweep)}, all else equal: "
            f"mean difference, {INTERVAL}. Open circles: the reference levels."
        ),
        plots.factor_effects, lambda sweep: bool((effects(sweep)["n"] > 0).any()),
    ),
    Plot(
        "interactions", "Effect of each factor",
        lambda sweep: (
            f"Interaction: mean {_claimed(sweep)} by two factors' levels, {INTERVAL}. Where lines do not run "
            "alike, the effect of one factor depends on the other."
        ),
        plots.interactions, lambda sweep: len(crossed_pairs(sweep)) > 0,
    ),
    Plot(
        "curve_samples", "Learning curves",
        lambda sweep: f"{name_of(sweep.metric).capitalize()} over samples.",
        plots.learning_curves, lambda sweep: _has_curve(sweep, sweep.metric, "samples"),
    ),
    Plot(
        "curve_flops", "Learning curves",
        lambda sweep: f"{name_of(sweep.metric).capitalize()} over training FLOPs.",
        lambda sweep: plots.learning_curves(sweep, over="flops"),
        lambda sweep: _has_curve(sweep, sweep.metric, "flops"),
    ),
    Plot(
        "curve_judged", "Learning curves",
        lambda sweep: f"{name_of(_judged(sweep)).capitalize()}, by which trials are judged, over samples.",
        lambda sweep: plots.learning_curves(sweep, _judged(sweep)),
        lambda sweep: _judged(sweep) != sweep.metric and _has_curve(sweep, _judged(sweep), "samples"),
    ),
    Plot(
        "params", "Accuracy against size and compute", _pareto,
        plots.accuracy_against,
        lambda sweep: _differ(sweep, "num_params"),
    ),
    Plot(
        "flops", "Accuracy against size and compute", _pareto,
        lambda sweep: plots.accuracy_against(sweep, "flops"),
        lambda sweep: _differ(sweep, "flops"),
    ),
    Plot(
        "depth", "Beyond one number", _depth,
        plots.plot_depth_curve, lambda sweep: len(depth.depth_curve(sweep)) > 0,
    ),
    Plot(
        "rating", "Beyond one number",
        lambda sweep: f"Test exact accuracy by how hard a puzzle is, mean and {INTERVAL}.",
        plots.accuracy_by_rating, lambda sweep: depth.by_rating(sweep)["rating"].nunique() > 1,
    ),
    Plot(
        "halting", "Beyond one number",
        lambda sweep: (
            "Does the halting value q tell which rows are solved? AUROC (0.5: no better than chance) and "
            "expected calibration error (0 is best); and the share of rows that were solved after some "
            f"supervision step and are not at the end. Mean and {INTERVAL}; AUROC needs rows of both kinds."
        ),
        plots.halting_calibration, lambda sweep: len(depth.halting(sweep)) > 0,
    ),
    Plot(
        "stopped", "Stopped early",
        lambda sweep: (
            "Every trial as far as it trained. Dot: completed; cross: stopped; triangle: diverged or failed; "
            "bar: unfinished. Dotted: rungs at which a decision fell."
        ),
        plots.stopped_trials, lambda sweep: bool((sweep.trials["status"] == "pruned").any()),
    ),
)  # fmt: skip
