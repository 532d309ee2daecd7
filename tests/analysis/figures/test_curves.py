"""Learning curves, read back from their artists."""

from __future__ import annotations

import numpy as np

from analysis import figures as plots
from tests.analysis.synthetic import OBJECTIVE


def _thick(figure):
    return [line for line in figure.axes[0].lines if line.get_linewidth() > 1 and len(line.get_xdata()) > 1]


def test_a_curve_is_the_mean_of_completed_trials_and_stops_stand_alone(sweep) -> None:
    figure = plots.learning_curves(sweep)
    history = sweep.history.merge(sweep.trials[["trial_id", "arm"]], on="trial_id")
    means = 100 * history[history["arm"] == "good"].groupby("step")[OBJECTIVE].mean()
    curves = {line.get_color(): line for line in _thick(figure)}
    assert len(curves) == 2  # the stopped arm has no mean
    np.testing.assert_allclose(curves[plots.looks(sweep)["good"].color].get_ydata(), means)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [100_000] * 3
    assert {text.get_text() for text in figure.axes[0].texts} >= {"base", "good", "weak"}


def test_over_flops_the_x_axis_is_flops(sweep) -> None:
    line = _thick(plots.learning_curves(sweep, over="flops"))[0]
    assert max(line.get_xdata()) == 400_000 * 40_000_000


def test_a_mean_ends_where_a_trial_has_no_report(sweep) -> None:
    lost = (sweep.history["trial_id"] == "good-d0-s1") & (sweep.history["step"] > 1000)
    sweep.history.loc[lost, OBJECTIVE] = np.nan
    color = plots.looks(sweep)["good"].color
    line = next(line for line in _thick(plots.learning_curves(sweep)) if line.get_color() == color)
    assert len(line.get_xdata()) == 10
