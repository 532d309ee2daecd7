"""How often runs diverge, fail or collapse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.compare.outcomes import has_collapsed, outcomes
from analysis.inference.intervals import share_interval
from analysis.report.build import render
from analysis.sweep import load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

RISE = [0.1, 0.3, 0.5, 0.7, 0.8, 0.85, 0.88, 0.9, 0.91, 0.9, 0.91, 0.9]


@pytest.mark.parametrize("n", [1, 5, 8, 40])
def test_the_interval_of_a_share_is_clopper_and_pearsons(n: int) -> None:
    for hits in range(n + 1):
        expected = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
        assert share_interval(hits, n) == pytest.approx((expected.low, expected.high))
    assert np.isnan(share_interval(0, 0)).all()


@pytest.mark.parametrize(
    ("end", "collapsed"),
    [
        ([0.9, 0.91], False),
        ([0.6, 0.55], False),  # 0.36 of 0.81 lost
        ([0.6, 0.5], True),  # 0.41 of 0.81
        ([0.0, 0.0], True),
        ([0.0, 0.9], False),  # it came back
        ([np.nan, 0.0], True),
    ],
)
def test_a_run_that_ends_with_half_of_its_gain_lost_has_collapsed(end: list[float], collapsed: bool) -> None:
    assert has_collapsed([*RISE, *end]) is collapsed
    assert has_collapsed([-value for value in [*RISE, *end]], maximise=False) is collapsed


def test_a_slow_fall_is_a_collapse_too() -> None:
    assert has_collapsed([*RISE, *np.linspace(0.9, 0.2, 12)])


@pytest.mark.parametrize("reports", [8, 20, 100])
def test_noise_is_no_collapse(reports: int) -> None:
    """Runs that learn nothing: their best report is luck, and so is its loss."""
    rng = np.random.default_rng(reports)
    found = sum(has_collapsed(0.1 + 0.02 * rng.normal(size=reports)) for _ in range(2_000))
    assert found <= 0.015 * 2_000


def test_too_few_reports_show_no_collapse() -> None:
    assert not has_collapsed([0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.0])
    assert has_collapsed([0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.0])
    assert not has_collapsed([]) and not has_collapsed([0.3] * 8)


def _folder(tmp_path: Path) -> Path:
    arms = {"a": Fake(0.6), "b": Fake(0.8, statuses={2: "diverged", 4: "failed", 5: "not_started"})}
    folder = write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3, 4, 5), phase="evidence")
    history = pd.read_parquet(folder / "history.parquet")
    for trial, last in {"b-d0-s1": 3, "a-d0-s3": 1}.items():
        rows = history.index[history["trial_id"] == trial][-last:]
        history.loc[rows, OBJECTIVE] = 0.05
    history.to_parquet(folder / "history.parquet")
    return folder


def test_shares_are_of_the_seeds_that_have_ended(tmp_path: Path) -> None:
    found = outcomes(load_sweep(_folder(tmp_path))).set_index("arm")
    counted = found[["n", "diverged", "failed", "collapsed"]]
    assert counted.loc["a"].tolist() == [5, 0, 0, 1] and counted.loc["b"].tolist() == [4, 1, 1, 1]
    assert (found.loc["b", "diverged_low"], found.loc["b", "diverged_high"]) == share_interval(1, 4)


def test_the_page_has_the_shares_and_says_what_a_collapse_is(tmp_path: Path) -> None:
    page = render(load_sweep(_folder(tmp_path)))
    assert "lost at least half of its gain in val exact accuracy" in page
    assert "1 of 4 [1, 81]" in page and "1 of 5 [1, 72]" in page


def test_where_nothing_was_lost_the_page_has_no_shares(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.6)}, phase="evidence")
    page = render(load_sweep(folder))
    assert "Clopper" not in page and "Diverged and failed" not in page
