"""The figures, one function each: a Sweep in, a matplotlib Figure out. Which of them the report shows, and
where, is in `analysis.figures.registry`."""

from analysis.figures.cost import accuracy_against
from analysis.figures.crossed import interactions
from analysis.figures.curves import learning_curves
from analysis.figures.depth import plot_depth_curve
from analysis.figures.effects import factor_effects
from analysis.figures.halting import halting_calibration
from analysis.figures.ranking import ranked_intervals
from analysis.figures.rating import accuracy_by_rating
from analysis.figures.slices import slices
from analysis.figures.stopped import stopped_trials
from analysis.figures.style import COLUMN, INK, PAGE, looks, looks_of, of_width, style

__all__ = [
    "COLUMN",
    "INK",
    "PAGE",
    "accuracy_against",
    "accuracy_by_rating",
    "factor_effects",
    "halting_calibration",
    "interactions",
    "learning_curves",
    "looks",
    "looks_of",
    "of_width",
    "plot_depth_curve",
    "ranked_intervals",
    "slices",
    "stopped_trials",
    "style",
]
