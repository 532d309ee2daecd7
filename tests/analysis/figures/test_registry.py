"""Every figure of the table."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.text import Text

from analysis import figures as plots
from analysis.compare.ranking import rank_arms
from analysis.figures.registry import PLOTS, figures_of
from analysis.sweep import load_sweep
from tests.analysis.figures.arms import CROSSED
from tests.analysis.synthetic import Fake, write_sweep


def test_every_figure_leaves_pyplot_and_settings_alone(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "all", CROSSED, depth=True, tune={"lr": [0.1]})
    before, sweep = dict(mpl.rcParams), load_sweep(folder)
    drawn = figures_of(sweep)
    assert [each.name for each in drawn] == [plot.name for plot in PLOTS]
    for each in drawn:
        for width in (plots.COLUMN, plots.PAGE):
            figure = each.at(width)
            figure.canvas.draw()
            assert figure.get_figwidth() == width
            assert all(axes.get_xlabel() for axes in figure.axes)
            texts = [text for text in figure.findobj(Text) if text.get_text()]
            assert {text.get_color() for text in texts} == {plots.INK}  # of marks alone is an arm's colour
    assert dict(mpl.rcParams) == before


def test_arms_stand_in_the_order_of_the_ranking(tmp_path: Path) -> None:
    arms = {
        name: Fake(final, stop=stop)
        for name, final, stop in (("c", 0.5, None), ("b", 0.7, 0.5), ("a", 0.9, None))
    }
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, depth=True))
    order = list(rank_arms(sweep)["arm"])
    assert order == ["a", "c", "b"]  # not that of the plan; b has no value
    for draw, shown in ((plots.ranked_intervals, order[:2]), (plots.stopped_trials, order)):
        labels = draw(sweep).axes[0].get_yticklabels()
        assert [label.get_text() for label in labels] == shown
    ends = [text for text in plots.learning_curves(sweep).axes[0].texts if text.get_text() in order[:2]]
    assert [text.get_text() for text in sorted(ends, key=lambda text: -text.get_position()[1])] == order[:2]


def test_a_figure_stands_only_where_the_sweep_has_its_numbers(tmp_path: Path) -> None:
    bare = {"a": Fake(0.8, params=None, flops=None), "b": Fake(0.7, params=None, flops=None)}
    names = {each.name for each in figures_of(load_sweep(write_sweep(tmp_path / "s", bare, test=False)))}
    assert names >= {"ranking", "curve_samples", "curve_judged"}
    assert not names & {
        "effects",
        "interactions",
        "curve_flops",
        "params",
        "flops",
        "depth",
        "rating",
        "halting",
        "stopped",
    }
