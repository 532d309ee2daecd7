"""The Pareto front."""

from __future__ import annotations

from pathlib import Path

from analysis.figures.cost import costs
from analysis.sweep import load_sweep
from tests.analysis.synthetic import Fake, write_sweep


def test_the_front_is_what_nothing_beats_at_its_price(tmp_path: Path) -> None:
    arms = {"small": Fake(0.5, params=10), "dear": Fake(0.6, params=30), "good": Fake(0.8, params=20)}
    arms["weak"] = Fake(0.3, params=20)
    found = costs(load_sweep(write_sweep(tmp_path / "s", arms)), "num_params").set_index("arm")["front"]
    assert found[found].index.tolist() == ["good", "small"]
