"""A sweep with an arm that was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.sweep import load_sweep
from tests.analysis.synthetic import Fake, write_sweep


@pytest.fixture
def sweep(tmp_path: Path):
    arms = {"base": Fake(0.7), "good": Fake(0.9), "weak": Fake(0.4, stop=0.25)}
    return load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
