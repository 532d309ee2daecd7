from __future__ import annotations

import pytest

from tests.faults.harness import Sweep


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The undisturbed sweep."""
    return Sweep(tmp_path_factory.mktemp("whole")).completed()
