"""What the figures show, read back from their artists."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import figures as plots
from analysis.figures.ranking import costs
from analysis.figures.registry import PLOTS, draw_all
from analysis.figures.style import spread
from analysis.sweep import load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

LAYERS = {(kind, n): {"model.mixer.kind": kind, "model.num_layers": n}
          for kind in ("mlp", "mamba") for n in (2, 1)}  # fmt: skip
CROSSED = {
    f"{kind}+{n}": Fake(0.2 * n + 0.3, params=100_000 * n, flops=10**7 * n, levels=levels)
    for (kind, n), levels in LAYERS.items()
}
CROSSED["mlp+none"] = Fake(0.4, stop=0.25, levels={"model.mixer.kind": "mlp"})


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
    names = [each.name for each in draw_all(load_sweep(write_sweep(tmp_path / "s", bare, test=False)))]
    assert names == ["ranking", "effects", "curve_samples", "curve_judged"]


def test_a_line_of_the_interaction_is_a_level_over_the_other_factors_levels(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", CROSSED))
    axes = plots.interactions(sweep).axes[0]
    assert axes.get_xlabel() == "model.num_layers"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2"]
    means = sweep.trials.groupby("arm")["test/exact_accuracy"].mean() * 100
    drawn = [list(line.get_ydata()) for line in axes.lines]
    assert drawn == [pytest.approx([means[f"{kind}+{n}"] for n in (1, 2)]) for kind in ("mlp", "mamba")]


def test_the_front_is_what_nothing_beats_at_its_price(tmp_path: Path) -> None:
    arms = {"small": Fake(0.5, params=10), "dear": Fake(0.6, params=30), "good": Fake(0.8, params=20)}
    arms["weak"] = Fake(0.3, params=20)
    found = costs(load_sweep(write_sweep(tmp_path / "s", arms)), "num_params").set_index("arm")["front"]
    assert found[found].index.tolist() == ["good", "small"]


def test_supervision_steps_are_drawn_by_doubling(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.8), "b": Fake(0.5)}, depth=True))
    axes = plots.plot_depth_curve(sweep).axes[0]
    assert axes.get_xscale() == "log" and list(axes.get_xticks()) == [1, 2, 4, 8, 16, 32, 64, 128]
    curve = max(axes.lines, key=lambda line: len(line.get_xdata()))
    means = sweep.trials[sweep.trials["arm"] == "a"][[f"test/exact_accuracy_at_{1 << k}" for k in range(8)]]
    np.testing.assert_allclose(curve.get_ydata(), 100 * means.mean())


def test_stopped_trials_end_where_they_stopped(sweep) -> None:
    lines = plots.stopped_trials(sweep).axes[0].lines
    crosses = [line.get_xdata()[0] for line in lines if line.get_marker() == "x"]
    assert crosses == [100_000] * 3
    assert len([line for line in lines if line.get_marker() == "o"]) == 6


@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
def test_labels_never_touch(places: list[float]) -> None:
    found = spread(places, 7.5, 100)
    assert (np.diff(np.sort(found)) >= 7.5 - 1e-9).all() and found.max() <= 100 + 1e-9
    order = np.argsort(places, kind="stable")
    assert (np.diff(found[order]) > 0).all()
