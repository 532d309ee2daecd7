"""What the figures show, read back from their artists."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import plots
from analysis.load import load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep


@pytest.fixture
def sweep(tmp_path: Path):
    arms = {"base": Fake(0.7), "good": Fake(0.9), "weak": Fake(0.4, stop=0.25)}
    return load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))


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


def test_arms_look_the_same_everywhere_and_differ_without_colour(tmp_path: Path) -> None:
    arms = {f"arm{i}": Fake(0.5) for i in range(30)}
    looks = plots.looks(load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0,))))
    assert len({(look.color, look.marker) for look in looks.values()}) == 30
    assert len({look.marker for look in list(looks.values())[:8]}) == 8
    assert looks["arm0"].color == plots.INK


def test_every_figure_leaves_pyplot_and_settings_alone(sweep) -> None:
    before = dict(mpl.rcParams)
    for draw in (plots.learning_curves, plots.accuracy_against_params, plots.ranked_intervals,
                 plots.stopped_trials):  # fmt: skip
        figure = draw(sweep)
        figure.canvas.draw()
        assert figure.get_figwidth() == plots.COLUMN
        assert all(axes.get_xlabel() for axes in figure.axes)
    assert dict(mpl.rcParams) == before


def test_stopped_trials_end_where_they_stopped(sweep) -> None:
    lines = plots.stopped_trials(sweep).axes[0].lines
    crosses = [line.get_xdata()[0] for line in lines if line.get_marker() == "x"]
    assert crosses == [100_000] * 3
    assert len([line for line in lines if line.get_marker() == "o"]) == 6


@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
def test_labels_never_touch(places: list[float]) -> None:
    spread = plots._spread(places, 7.5, 100)
    assert (np.diff(np.sort(spread)) >= 7.5 - 1e-9).all() and spread.max() <= 100 + 1e-9
    order = np.argsort(places, kind="stable")
    assert (np.diff(spread[order]) > 0).all()
