"""A sweep of two crossed factors whose trials carry claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.sweep import Sweep, load_sweep
from tests.analysis.synthetic import Fake, write_sweep


@pytest.fixture
def grid(tmp_path: Path) -> Sweep:
    finals = {("a", 2): 0.4, ("a", 4): 0.5, ("b", 2): 0.6, ("b", 4): 0.9}
    arms = {f"{kind}{n}": Fake(final, levels={"kind": kind, "n": n}) for (kind, n), final in finals.items()}
    space = {"evidence": {"margin": 0.02}}
    return load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3, 4, 5), phase="evidence", space=space))
