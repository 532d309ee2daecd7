"""The figures, one function each: a Sweep in, a matplotlib Figure out. `analysis.figures.registry` is their
table."""

from analysis.figures.curves import learning_curves, stopped_trials
from analysis.figures.depth import accuracy_by_rating, halting_calibration, plot_depth_curve
from analysis.figures.factors import factor_effects, interactions
from analysis.figures.ranking import accuracy_against, ranked_intervals
from analysis.figures.style import COLUMN, INK, looks, style

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
