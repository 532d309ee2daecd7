"""Interactions, read back from their artists."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import figures as plots
from analysis.sweep import load_sweep
from tests.analysis.figures.arms import CROSSED
from tests.analysis.synthetic import write_sweep


def test_a_line_of_the_interaction_is_a_level_over_the_other_factors_levels(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", CROSSED))
    axes = plots.interactions(sweep).axes[0]
    assert axes.get_xlabel() == "model.num_layers"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2"]
    means = sweep.trials.groupby("arm")["test/exact_accuracy"].mean() * 100
    drawn = [
        list(line.get_ydata()) for line in axes.lines if line.get_linestyle() != "None" and line.get_clip_on()
    ]
    assert drawn == [pytest.approx([means[f"{kind}+{n}"] for n in (1, 2)]) for kind in ("mlp", "mamba")]
