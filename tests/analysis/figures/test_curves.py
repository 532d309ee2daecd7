"""Learning curves, read back from their artists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import figures as plots
from analysis.compare.ranking import rank_arms
from analysis.sweep import load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep


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
    figure = plots.learning_curves(sweep, over="flops")
    assert max(_thick(figure)[0].get_xdata()) == 400_000 * 40_000_000
    figure.canvas.draw()
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert figure.axes[0].get_xlabel() == "training FLOPs (10¹²)" and "16" in ticks
    assert all(len(tick) <= 4 for tick in ticks)


def test_from_four_seeds_on_the_band_is_the_interval_of_the_mean(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.7)}, seeds=(1, 2, 3, 4, 5), phase="evidence")
    sweep = load_sweep(folder)
    (band,) = plots.learning_curves(sweep).axes[0].collections
    ranked = rank_arms(sweep).iloc[0]
    last = band.get_paths()[0].vertices
    ends = last[last[:, 0] == 400_000][:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((100 * ranked["low"], 100 * ranked["high"]))


def test_no_stroke_inside_the_axes_leads_to_a_label(sweep) -> None:
    figure = plots.learning_curves(sweep)
    strokes = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.5]
    assert strokes and all(min(line.get_xdata()) >= 1 for line in strokes)  # in parts of the axes
    assert len(strokes) == 2  # the arm that was stopped at a quarter has none


def test_a_mean_ends_where_a_trial_has_no_report(sweep) -> None:
    lost = (sweep.history["trial_id"] == "good-d0-s1") & (sweep.history["step"] > 1000)
    sweep.history.loc[lost, OBJECTIVE] = np.nan
    color = plots.looks(sweep)["good"].color
    line = next(line for line in _thick(plots.learning_curves(sweep)) if line.get_color() == color)
    assert len(line.get_xdata()) == 10
