"""Where trials stopped, read back from the artists."""

from __future__ import annotations

from analysis import figures as plots
from tests.analysis.synthetic import at_equal_flops


def test_stopped_trials_end_where_they_stopped(sweep) -> None:
    lines = plots.stopped_trials(sweep).axes[0].lines
    crosses = [line.get_xdata()[0] for line in lines if line.get_marker() == "x"]
    assert crosses == [100_000] * 3
    assert len([line for line in lines if line.get_marker() == "o"]) == 6


def test_rungs_in_flops_are_drawn_over_flops(sweep) -> None:
    figure = plots.stopped_trials(at_equal_flops(sweep, 1.6e13))
    assert figure.axes[0].get_xlabel().startswith("training FLOPs")
    crosses = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert crosses == [100_000 * 40_000_000] * 3
