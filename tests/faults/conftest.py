from __future__ import annotations

import pytest

from tests.faults.harness import Sweep


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The undisturbed sweep."""
    sweep = Sweep(tmp_path_factory.mktemp("whole"))
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    return sweep
