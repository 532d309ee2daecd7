"""How well the halting value q is calibrated."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.compare.ranking import arms_in_order
from analysis.figures.plot import INTERVAL, Plot
from analysis.figures.style import MOST, draw_values, drawn_of, looks, make_row, styled
from analysis.format import SHARE
from analysis.sweep import Sweep
from analysis.trm_metrics import halting

# Each measure's title, and the factor by which it is shown.
MEASURES = {
    "q_auroc": ("AUROC of q", 1.0),
    "q_ece": ("ECE of q", 1.0),
    "solved_then_lost": ("solved, then lost (%)", SHARE.factor),
}


@styled
def halting_calibration(sweep: Sweep) -> Figure:
    """A row an arm: AUROC and expected calibration error of the halting value q as a prediction that a row is
    solved, and the share of rows solved after some step and not at the end; 95% intervals over seeds."""
    found, how = halting(sweep), looks(sweep)
    arms = [arm for arm in arms_in_order(sweep, MOST) if arm in set(found["arm"])]
    measures = [measure for measure in MEASURES if found[measure].notna().any()]
    figure, panels = make_row([MEASURES[measure][0] for measure in measures], arms)
    for axes, measure in zip(panels, measures, strict=True):
        values, factor = found.set_index("arm"), MEASURES[measure][1]
        columns = [measure, f"{measure}_low", f"{measure}_high"]
        rows = values[columns].astype(float) * factor
        for y, arm in enumerate(arms):
            mean, low, high = rows.loc[arm].to_numpy()
            axes.plot([low, high], [y, y], color=how[arm].color, lw=1.4)
            if np.isnan(low) and not np.isnan(mean):
                seeds = values[f"{measure}_values"][arm]
                draw_values(axes, y, [value * factor for value in seeds], how[arm], across=True)
            axes.plot([mean], [y], how[arm].marker, color=how[arm].color)
        axes.xaxis.set_major_locator(MaxNLocator(2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure


PLOTS = (
    Plot(
        "halting",
        "Beyond one number",
        lambda sweep: (
            "Does the halting value q tell which rows are solved? AUROC (0.5: no better than chance) and "
            "expected calibration error (0 is best); and the share of rows that were solved after some "
            f"supervision step and are not at the end. Mean and {INTERVAL}; AUROC needs rows of both kinds."
            f"{drawn_of(sweep)}"
        ),
        halting_calibration,
        lambda sweep: len(halting(sweep)) > 0,
    ),
)
