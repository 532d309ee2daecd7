"""What the seeds of two arms have in common, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.findings import cannot_be_concluded, how_decided, settled, verdict
from analysis.load import Sweep, load_sweep
from analysis.pairing import correlations, pairing_text
from analysis.stats import rank_arms
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
    text, row = pairing_text(sweep, TEST), rank_arms(sweep).set_index("arm").loc["c"]
    assert "Pairing buys nothing against c," in text and "against b" not in text
    assert f"c +{100 * row['test_unpaired_diff']:.1f} [" in text and "by permutation" in text
    assert any(text in limit for limit in cannot_be_concluded(sweep, rank_arms(sweep)))


def test_equivalence_and_its_margin_are_said(sweep: Sweep) -> None:
    wide = replace(sweep, space={**sweep.space, "evidence": {"margin": 0.022}})
    ranked = rank_arms(wide)
    assert "b is equivalent to a within ±2.2 points" in " ".join(settled(wide, ranked))
    assert "equivalent to a within ±2.2 points" in verdict(wide, ranked)
    assert not any(limit.startswith("Whether b") for limit in cannot_be_concluded(wide, ranked))
    assert "within ±2.2 points" in how_decided(wide) and "over 2 comparisons" in how_decided(wide)
    narrow = replace(sweep, space={**sweep.space, "evidence": {"margin": 0.001}})
    limits = cannot_be_concluded(narrow, rank_arms(narrow))
    assert any("Whether c differs" in limit and "nor is it shown to be within" in limit for limit in limits)


def test_what_is_better_is_said_with_the_test_that_decided(sweep: Sweep) -> None:
    asked = replace(sweep, space={**sweep.space, "evidence": {"test": "t"}})
    (sentence,) = settled(asked, rank_arms(asked))
    assert sentence.startswith("b is better than a: +1.8 [") and "paired t-test, p < 0.001" in sentence


def test_too_few_shared_seeds_say_nothing(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.6)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1), phase="evidence"))
    assert pairing_text(sweep, TEST) == ""
    assert correlations(sweep, TEST)["correlation"].map(math.isnan).all()
