"""What the seeds of two arms have in common, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.compare.pairing import correlations, idle_arms, pairing_text
from analysis.compare.ranking import rank_arms
from analysis.report import page
from analysis.report.limits import cannot_be_concluded
from analysis.report.sections.ranking import both_tests
from analysis.report.sentences import verdict
from analysis.report.table import how_to_read
from analysis.sweep import Sweep, load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

TEST = "test/exact_accuracy"
SEEDS = 8


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Arm b shares the baseline's luck, arm c has its own."""
    arms = {name: Fake(0.5) for name in "abc"}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=tuple(range(SEEDS)), phase="evidence"))
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.02, SEEDS)
    values = {"a": 0.5 + luck, "b": 0.52 + luck + rng.normal(0, 0.002, SEEDS), "c": 0.505 + 1.5 * luck[::-1]}
    for arm, column in values.items():
        sweep.trials.loc[sweep.trials["arm"] == arm, [OBJECTIVE, TEST]] = np.stack([column, column], axis=1)
    return sweep


def test_the_correlation_is_scipys_with_its_interval(sweep: Sweep) -> None:
    found = correlations(sweep, TEST).set_index("arm")
    table = sweep.trials.pivot(index="seed", columns="arm", values=TEST)
    for arm in "bc":
        oracle = stats.pearsonr(table[arm], table["a"])
        assert found.loc[arm, "correlation"] == pytest.approx(oracle.statistic)
        ends = oracle.confidence_interval()
        assert tuple(found.loc[arm, ["low", "high"]]) == pytest.approx((ends.low, ends.high))
    assert list(found["helps"]) == [True, False] and list(found["n_pairs"]) == [SEEDS] * 2


def test_where_pairing_buys_nothing_the_unpaired_result_stands_beside_it(sweep: Sweep) -> None:
    ranked = rank_arms(sweep)
    text, row = pairing_text(sweep, TEST), ranked.set_index("arm").loc["c"]
    assert "Pairing buys nothing against c:" in text and "against b" not in text
    assert any("than from any others, against c:" in limit for limit in cannot_be_concluded(sweep, ranked))
    html = page.html(both_tests(sweep, ranked)).replace("−", "-")
    cells = html.split(">c</td>")[1].split("</tr>")[0]
    for name in ("low", "high"):
        assert f"{100 * row[f'test_unpaired_{name}']:+.1f}" in cells
    assert f"{row['test_correlation']:.2f}" in cells


def test_many_arms_that_pairing_does_not_help_are_counted(tmp_path: Path) -> None:
    arms = {f"arm{i}": Fake(0.5) for i in range(12)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=tuple(range(SEEDS)), phase="evidence"))
    idle, text = idle_arms(sweep, TEST), pairing_text(sweep, TEST)
    assert len(idle) > 6 and f" and {len(idle) - 5} more:" in text and len(text) < 300


def test_where_nothing_is_paired_pairing_is_no_limit(sweep: Sweep) -> None:
    asked = replace(sweep, space={**sweep.space, "evidence": {"pairing": "unpaired"}})
    assert not any("from any others" in limit for limit in cannot_be_concluded(asked, rank_arms(asked)))
    assert "paired difference (points)" in page.html(both_tests(asked, rank_arms(asked)))


def test_equivalence_and_its_margin_are_said(sweep: Sweep) -> None:
    wide = replace(sweep, space={**sweep.space, "evidence": {"margin": 0.022}})
    ranked = rank_arms(wide)
    assert "equivalent to a within ±2.2 points: b" in verdict(wide, ranked)
    assert not any(limit.startswith("Whether b") for limit in cannot_be_concluded(wide, ranked))
    assert "within ±2.2 points" in page.html(
        both_tests(wide, ranked)
    ) and "over 2 comparisons" in how_to_read(wide)
    narrow = replace(sweep, space={**sweep.space, "evidence": {"margin": 0.001}})
    limits = cannot_be_concluded(narrow, rank_arms(narrow))
    assert any("Whether c differs" in limit and "nor is it shown to be within" in limit for limit in limits)


def test_without_a_margin_equivalence_is_said_to_be_untested(sweep: Sweep) -> None:
    html = page.html(both_tests(sweep, rank_arms(sweep)))
    assert "Equivalence is not tested" in html and "equivalence (Holm)" not in html


def test_what_is_better_is_said_with_the_test_that_decided(sweep: Sweep) -> None:
    sentence = verdict(sweep, rank_arms(sweep))
    assert "b ranks first" in sentence
    assert "By the paired t-test, Holm-adjusted over 2 comparisons: better than a: b" in sentence
    assert "points, p < 0.001" in sentence


def test_a_baseline_that_is_best_is_said_with_what_is_worse(sweep: Sweep) -> None:
    resolved = {**sweep.resolved, "baseline": "b"}
    turned = replace(sweep, space={**sweep.space, "resolved": resolved})
    assert "worse than b: a" in verdict(turned, rank_arms(turned))


def test_where_values_have_no_spread_the_exact_test_decides(sweep: Sweep) -> None:
    for arm, value in {"a": 0.0, "b": 1.0, "c": 0.0}.items():
        sweep.trials.loc[sweep.trials["arm"] == arm, [OBJECTIVE, TEST]] = value
    ranked = rank_arms(sweep).set_index("arm")
    assert ranked.loc["b", "p"] == 2.0**-7 and ranked.loc["b", "verdict"] == "better"
    assert math.isnan(ranked.loc["b", "diff_low"]) and ranked.loc["c", "verdict"] == "not settled"
    assert "better than a: b (+100.0 points, p = 0.016" in verdict(sweep, rank_arms(sweep))


def test_too_few_shared_seeds_say_nothing(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.6)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1), phase="evidence"))
    assert pairing_text(sweep, TEST) == ""
    assert correlations(sweep, TEST)["correlation"].map(math.isnan).all()
