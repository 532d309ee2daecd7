"""Where trials stopped, read back from the artists."""

from __future__ import annotations

from analysis import figures as plots


def test_stopped_trials_end_where_they_stopped(sweep) -> None:
    lines = plots.stopped_trials(sweep).axes[0].lines
    crosses = [line.get_xdata()[0] for line in lines if line.get_marker() == "x"]
    assert crosses == [100_000] * 3
    assert len([line for line in lines if line.get_marker() == "o"]) == 6
