"""Which draws go on to the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.decide.judge import Decision
from sweeps.decide.selection import ranked
from sweeps.record.state import TrialState
from tests.sweeps.spaces import ASHA, TUNE, toy_plan


def draw(index: int, *values: float, status: str = "completed", seed: int = 0) -> TrialState:
    """A trial with a value at 10, 20, ... samples."""
    made = TrialState(f"a-d{index}-s{seed}", "a", index, {}, seed, "search")
    for step, value in enumerate(values, start=1):
        made.report(step, {"samples": 10.0 * step, "accuracy": value, "step": step})
    made.status = status  # type: ignore[assignment]
    return made


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    return toy_plan(tmp_path, tune=TUNE, scheduler=ASHA | {"scope": "arm"}).spec


def test_whole_draws_come_before_stopped_ones_and_these_by_how_far_they_came(spec: Any) -> None:
    trials = [
        draw(0, 0.1, 0.2),
        draw(1, 0.9, status="pruned"),
        draw(2, 0.3, 0.4, status="pruned"),
        draw(3, 0.2, 0.6),
        draw(4, 0.99, status="failed"),
        draw(5, 0.99, status="diverged"),
    ]
    assert ranked(trials, spec, {}) == [3, 0, 2, 1]


def test_a_draw_is_the_mean_of_its_seeds_and_out_where_one_failed(spec: Any) -> None:
    trials = [
        *(draw(0, 0.5, seed=seed) for seed in (0, 1)),
        *(draw(1, value, seed=seed) for seed, value in enumerate((0.9, 0.2))),
        draw(2, 0.9, seed=0),
        draw(2, 0.9, seed=1, status="failed"),
    ]
    assert ranked(trials, spec, {}) == [1, 0]


def test_an_audited_draw_chooses_nothing_with_what_it_did_after_its_stop(spec: Any) -> None:
    stop = Decision("a-d1", 20.0, 0.1, 0.3, "audit", "")
    trials = [draw(0, 0.1, 0.3, 0.4), draw(1, 0.1, 0.1, 0.9), draw(2, 0.1, 0.05, status="pruned")]
    assert ranked(trials, spec, {"a-d1": stop}) == [0, 1, 2]  # as one stopped at 20 samples with 0.1
    better = [trials[0], trials[1], draw(2, 0.1, 0.2, status="pruned")]
    assert ranked(better, spec, {"a-d1": stop}) == [0, 2, 1]
