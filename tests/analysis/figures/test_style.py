"""How arms look, and labels that do not touch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis import figures as plots
from analysis.figures.style import COLUMN, PAGE, make_row, of_width, spread, style
from analysis.sweep import load_sweep
from tests.analysis.figures.arms import CROSSED
from tests.analysis.synthetic import Fake, write_sweep


def test_arms_look_the_same_everywhere_and_differ_without_colour(tmp_path: Path) -> None:
    arms = {f"arm{i}": Fake(0.5) for i in range(30)}
    looks = plots.looks(load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0,))))
    assert len({(look.color, look.marker) for look in looks.values()}) == 30
    assert len({look.marker for look in list(looks.values())[:8]}) == 8
    assert looks["arm0"].color == plots.INK


def test_a_page_that_draws_by_itself_is_told_marks_and_lines_in_terms_of_svg() -> None:
    found = plots.looks_of(12)
    assert len({look.outline for look in found}) == 12
    assert len({(look.color, *look.dashes) for look in found}) == 12
    assert found[0].dashes == [] and found[1].dashes == [5, 1.5]
    assert found[2].marker == "^" and found[2].outline == "M0 -0.5L-0.5 0.5L0.5 0.5Z"  # it points up


@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
def test_labels_never_touch(places: list[float]) -> None:
    found = spread(places, 7.5, 100)
    assert (np.diff(np.sort(found)) >= 7.5 - 1e-9).all() and found.max() <= 100 + 1e-9
    order = np.argsort(places, kind="stable")
    assert (np.diff(found[order]) > 0).all()


@pytest.mark.parametrize(("seeds", "open_marks"), [(3, True), (4, False)])
def test_below_four_seeds_figures_show_each_ones_value(tmp_path: Path, seeds: int, open_marks: bool) -> None:
    folder = write_sweep(tmp_path / "s", CROSSED, seeds=tuple(range(seeds)), phase="evidence", depth=True)
    sweep = load_sweep(folder)
    drawn = {
        "depth": plots.plot_depth_curve(sweep), "rating": plots.accuracy_by_rating(sweep),
        "halting": plots.halting_calibration(sweep), "effects": plots.factor_effects(sweep),
        "crossed": plots.interactions(sweep), "cost": plots.accuracy_against(sweep),
    }  # fmt: skip
    for name, figure in drawn.items():
        lines = [line for axes in figure.axes for line in axes.lines]
        marks = [
            line for line in lines if line.get_markersize() == 3 and line.get_markerfacecolor() == "none"
        ]
        assert bool(marks) == open_marks, name
        assert all(len(line.get_xdata()) == seeds for line in marks), name
    ranking = plots.ranked_intervals(sweep).axes[0].lines
    assert any(line.get_linewidth() == 1.6 and len(line.get_xdata()) == 2 for line in ranking) != open_marks


@pytest.mark.parametrize("inches", [COLUMN, PAGE])
def test_titles_below_axes_side_by_side_stay_apart_and_on_the_figure(inches: float) -> None:
    with of_width(inches), style():
        titles = ["test exact accuracy (%)", "difference from the arm it is tested against (points)"]
        figure, panels = make_row(titles, ["model.mixer.kind=gated_deltanet,model.num_layers=4", "mlp"])
        FigureCanvasAgg(figure).draw()
        left, right = (axes.xaxis.label.get_window_extent() for axes in panels)
    assert left.x1 < right.x0 and right.x1 <= figure.bbox.x1 and min(left.y0, right.y0) >= 0
