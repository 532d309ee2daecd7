"""Accuracy over supervision steps, read back from the artists."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis import figures as plots
from analysis.sweep import load_sweep
from tests.analysis.synthetic import Fake, write_sweep


def test_supervision_steps_are_drawn_by_doubling(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.8), "b": Fake(0.5)}, depth=True))
    axes = plots.plot_depth_curve(sweep).axes[0]
    assert axes.get_xscale() == "log" and list(axes.get_xticks()) == [1, 2, 4, 8, 16, 32, 64, 128]
    curve = max(axes.lines, key=lambda line: len(line.get_xdata()))
    means = sweep.trials[sweep.trials["arm"] == "a"][[f"test/exact_accuracy_at_{1 << k}" for k in range(8)]]
    np.testing.assert_allclose(curve.get_ydata(), 100 * means.mean())
