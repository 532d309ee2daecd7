"""The figures, one function each: a Sweep in, a matplotlib Figure out. `analysis.figures` is their table."""

from analysis.plots.curves import learning_curves, stopped_trials
from analysis.plots.depth import accuracy_by_rating, halting_calibration, plot_depth_curve
from analysis.plots.factors import factor_effects, interactions
from analysis.plots.look import COLUMN, INK, looks, style
from analysis.plots.ranking import accuracy_against, ranked_intervals

__all__ = [
    "COLUMN",
    "INK",
    "accuracy_against",
    "accuracy_by_rating",
    "factor_effects",
    "halting_calibration",
    "interactions",
    "learning_curves",
    "looks",
    "plot_depth_curve",
    "ranked_intervals",
    "stopped_trials",
    "style",
]
