"""Shared by the data tests: a cache of their own, and real puzzles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trm.data.boards.rules import Boards
from trm.data.boards.splits import load_splits
from trm.data.sudoku import SudokuConfig
from trm.data.sudoku.generate import generate

SHARED = Path(__file__).parents[4] / "shared" / "data" / "sudoku"


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory):
    """The user's cache is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "trm"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trm"


@pytest.fixture(scope="session")
def puzzles() -> dict[int, tuple[Boards, Boards]]:
    """A hundred generated puzzles of each size, with their solutions."""
    return {size: generate(size, 100, seed=0) for size in (4, 6, 9)}


@pytest.fixture(scope="session")
def hard() -> tuple[Boards, Boards]:
    """The packaged hard puzzles' test file."""
    test = load_splits(SudokuConfig(source="generated_hard")).test
    return test.boards, test.solutions


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"no real puzzles at {SHARED}")
    return SHARED


def rows_of(array: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in array}
