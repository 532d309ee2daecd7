"""The table of figures. Adding one is a file beside this one and its name here; see docs/extending.md.

The file NAME.py holds PLOTS: its figure, or a few that share a drawing. The page, the exported files and
MLflow's artifacts all come from here, in this order.
"""

from __future__ import annotations

from importlib import import_module

from analysis.figures.plot import Drawn, Plot
from analysis.sweep import Sweep

NAMES = (
    "ranking",
    "slices",
    "effects",
    "crossed",
    "curves",
    "cost",
    "depth",
    "rating",
    "halting",
    "stopped",
)

PLOTS: tuple[Plot, ...] = tuple(
    plot for name in NAMES for plot in import_module(f"analysis.figures.{name}").PLOTS
)


def figures_of(sweep: Sweep) -> list[Drawn]:
    """Every figure of PLOTS that applies to the sweep, in their order."""
    return [Drawn(plot, sweep) for plot in PLOTS if plot.applies(sweep)]
