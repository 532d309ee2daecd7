"""Every figure of the table."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from analysis import figures as plots
from analysis.figures.registry import PLOTS, draw_all
from analysis.sweep import load_sweep
from tests.analysis.figures.arms import CROSSED
from tests.analysis.synthetic import Fake, write_sweep


def test_every_figure_leaves_pyplot_and_settings_alone(tmp_path: Path) -> None:
    before, sweep = dict(mpl.rcParams), load_sweep(write_sweep(tmp_path / "all", CROSSED, depth=True))
    drawn = draw_all(sweep)
    assert [each.name for each in drawn] == [plot.name for plot in PLOTS]
    for each in drawn:
        each.figure.canvas.draw()
        assert each.figure.get_figwidth() == plots.COLUMN
        assert all(axes.get_xlabel() for axes in each.figure.axes)
    assert dict(mpl.rcParams) == before


def test_a_figure_stands_only_where_the_sweep_has_its_numbers(tmp_path: Path) -> None:
    bare = {"a": Fake(0.8, params=None, flops=None), "b": Fake(0.7, params=None, flops=None)}
    names = {each.name for each in draw_all(load_sweep(write_sweep(tmp_path / "s", bare, test=False)))}
    assert names >= {"ranking", "effects", "curve_samples", "curve_judged"}
    assert not names & {
        "interactions",
        "curve_flops",
        "params",
        "flops",
        "depth",
        "rating",
        "halting",
        "stopped",
    }
