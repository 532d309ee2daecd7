"""A trainer diverges or raises: what becomes of its own trials, and that the others' stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.faults.harness import Sweep

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

LEVELS = {"well": {"model.kind": "b"}, "ill": {"model.kind": "c"}, "slow": {"model.kind": "d"}}


def _sweep(folder: Path, max_failures: int = 1, **ill: Any) -> Sweep:
    """Three arms on two seeds; `ill` is what one of them is told to do."""
    levels = {**LEVELS, "ill": {**LEVELS["ill"], **ill}}
    ablate = {"case": {"levels": levels}}
    return Sweep(folder, ablate=ablate, tune=None, search=None, seeds=[1, 2], max_failures=max_failures)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return _sweep(tmp_path_factory.mktemp("healthy")).completed()


def _ill(sweep: Sweep) -> pd.DataFrame:
    trials = pd.read_parquet(sweep.results / "trials.parquet")
    return trials[trials.trial_id.str.contains("ill")]


def test_a_trial_diverges(healthy: Sweep, tmp_path: Path) -> None:
    sweep = _sweep(tmp_path, nan_at=4)
    done = sweep.run()
    assert done.returncode == 0, done.stderr  # a finding, not a failure
    assert set(_ill(sweep).status) == {"diverged"}
    assert set(_ill(sweep).reason) == {"accuracy is nan at step 4"}
    assert not sweep.events("retry")
    sweep.assert_ends_as(healthy, without="ill")


def test_a_trial_raises_and_has_no_more_tries(healthy: Sweep, tmp_path: Path) -> None:
    sweep = _sweep(tmp_path, max_failures=1, fail_at=4)
    done = sweep.run()
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert set(_ill(sweep).status) == {"failed"}
    assert all("the toy broke" in reason for reason in _ill(sweep).reason)
    assert len(sweep.events("retry")) == 2  # one a seed
    sweep.assert_ends_as(healthy, without="ill")
    again = sweep.run("--resume")  # a failed trial has ended: it is not tried anew
    assert again.returncode == 1, again.stderr
    assert len(sweep.events("start")) == 4 + 2 * 2
    sweep.assert_ends_as(healthy, without="ill")


def test_a_trial_raises_and_succeeds_when_it_is_tried_again(healthy: Sweep, tmp_path: Path) -> None:
    sweep = _sweep(tmp_path, fail_at=4, fail_once=str(tmp_path / "failed-once"))
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    assert len(sweep.events("retry")) == 1
    sweep.assert_ends_as(healthy)
