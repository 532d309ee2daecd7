"""Shapes and types in the signatures of `trm` are checked while the tests run, and only then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

_hook = install_import_hook(["trm.layers", "trm.losses", "trm.model", "trm.mixers"], "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real puzzles and recordings that are not the project's to ship; without them a test skips."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder `shared` beside the checkout (real puzzles), which is not there")
    return folder


@pytest.fixture
def cpu_second() -> float:
    """CPU seconds that what takes one on an idle, ordinary core takes here and now: bounds are in these."""
    begin = time.process_time()
    sum(number for number in range(10**6))
    return max(1.0, (time.process_time() - begin) / 0.05)
