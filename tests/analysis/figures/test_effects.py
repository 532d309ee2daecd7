"""The figure of the effects."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures.effects import factor_effects
from analysis.report.verdicts import verdicts
from analysis.sweep import load_sweep
from tests.analysis.played import played_space
from tests.conftest import ROOT


def test_the_intervals_of_effects_that_were_asked_are_those_of_the_claims(tmp_path: Path) -> None:
    sweep = load_sweep(played_space(tmp_path, ROOT / "search_spaces" / "mini_layers.yaml"))
    (axes,) = factor_effects(sweep).axes
    drawn = [list(map(float, line.get_xdata())) for line in axes.lines if len(line.get_xdata()) == 2]
    rows = [row for row in verdicts(sweep)["comparisons"] if " x " not in row["arm"]]
    asked = [[100 * row["low"], 100 * row["high"]] for row in rows]
    for ends in asked:
        assert any(ends == pytest.approx(each) for each in drawn)
    assert len(asked) == 3
