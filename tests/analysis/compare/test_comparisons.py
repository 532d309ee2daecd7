"""The comparisons with the baseline: which test decides, what its verdict is, and when there are too few."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.compare.claims import rule_of
from analysis.compare.comparisons import comparisons, correlation
from analysis.compare.ranking import compare, rank_arms
from analysis.inference.rule import Rule
from analysis.inference.significance import seeds_needed
from analysis.sweep import AnalysisError, load_sweep
from tests.analysis.inference.oracles import welch
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

SEEDS = 8


def drawn(n: int = SEEDS, seed: int = 0, **gaps: float) -> pd.DataFrame:
    """Arms with seed SD 1 at these distances from the baseline "a"."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({arm: rng.normal(gap, 1, n) for arm, gap in {"a": 0.0, **gaps}.items()})


@pytest.mark.parametrize("test", ["permutation", "t"])
@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_both_tests_are_there_and_the_rules_decides(test: str, pairing: str) -> None:
    table = drawn(b=1.5, c=0.2)
    found = comparisons(table, "a", Rule(test=test, pairing=pairing))
    for arm in ("b", "c"):
        row, x, y = found.loc[arm], table[arm], table["a"]
        assert row["paired_t_p"] == pytest.approx(stats.ttest_rel(x, y).pvalue)
        assert row["unpaired_t_p"] == pytest.approx(welch(x, y)[0])
        assert row["p"] == row[f"{pairing}_{test}_p"]
        is_significant = row["verdict"] in ("better", "worse")
        assert is_significant == (not row["diff_low"] <= 0 <= row["diff_high"])
        assert row["correlation"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.loc["b", "p_adjusted"] == pytest.approx(min(2 * found.loc["b", "p"], 1))
    assert found["decided_by"].nunique() == 1 and found.loc["a", "verdict"] == "baseline"


def test_verdicts() -> None:
    table = drawn(20, up=9.0, down=-9.0, none=0.0, same=0.0)
    table["same"] = table["a"] + np.random.default_rng(1).normal(0, 0.05, 20)
    plain, margin = Rule(pairing="paired"), Rule(pairing="paired", margin=0.2)
    assert list(comparisons(table, "a", plain)["verdict"]) == [
        "baseline", "better", "worse", "not settled", "not settled",
    ]  # fmt: skip
    assert list(comparisons(table, "a", margin)["verdict"])[-1] == "equivalent"
    assert list(comparisons(table, "a", plain, maximise=False)["verdict"])[1:3] == ["worse", "better"]
    unpaired = comparisons(table, "a", Rule(pairing="unpaired", margin=0.2)).loc["same"]
    assert unpaired["verdict"] == "not settled"  # its pairing is what made it so sharp
    assert comparisons(table, "a", plain)["p_equivalent"].isna().all()


def test_equivalence_is_adjusted_for_the_family() -> None:
    """Alone it is within the margin; as one of ten comparisons it is not shown."""
    table = drawn(10, b=0.0)
    table["b"] = table["a"] + np.array([1, -1] * 5) * 0.1
    rule = Rule(pairing="paired", margin=0.1)
    assert comparisons(table, "a", rule).loc["b", "verdict"] == "equivalent"
    many = comparisons(table, "a", rule, family=10).loc["b"]
    assert many["p_equivalent"] < 0.05 < many["p_equivalent_adjusted"] and many["verdict"] == "not settled"


def test_a_sure_difference_within_the_margin_is_equivalent() -> None:
    table = drawn(10)
    table["b"] = table["a"] + 0.05 + np.linspace(-0.01, 0.01, 10)
    found = comparisons(table, "a", Rule(pairing="paired", margin=0.5)).loc["b"]
    assert found["p_adjusted"] < 0.05 and found["verdict"] == "equivalent"


def test_too_few_is_the_deciding_tests_own() -> None:
    """Five comparisons: eight pairs for the sign-flip test, five seeds an arm unpaired, two for t."""
    gaps = dict.fromkeys("bcdef", 50.0)
    for rule, few, enough in (
        (Rule(test="permutation", pairing="paired"), 7, 8),
        (Rule(test="permutation"), 4, 5),
        (Rule(pairing="paired"), 1, 2),
        (Rule(), 1, 2),
    ):
        assert seeds_needed(5, rule.test, rule.pairing) == enough
        assert set(comparisons(drawn(few, **gaps), "a", rule)["verdict"][1:]) == {"too few seeds"}
        assert "too few seeds" not in set(comparisons(drawn(enough, **gaps), "a", rule)["verdict"])


def test_seeds_that_are_not_shared_count_unpaired_alone() -> None:
    table = pd.DataFrame(
        {"a": [1.0, 2, 3, math.nan, math.nan, math.nan], "b": [math.nan] * 3 + [11.0, 12, 13]}
    )
    paired, unpaired = (
        comparisons(table, "a", Rule(test="permutation", pairing=way)).loc["b"]
        for way in ("paired", "unpaired")
    )
    assert paired["verdict"] == "not compared" and paired["n_pairs"] == 0 and math.isnan(paired["p"])
    assert unpaired["diff"] == pytest.approx(10) and unpaired["p"] == 0.1
    assert unpaired["verdict"] == "too few seeds"


def test_correlation_needs_three_pairs_and_spread() -> None:
    assert math.isnan(correlation(np.ones(2), np.arange(2.0)))
    assert math.isnan(correlation(np.ones(5), np.arange(5.0)))


def test_the_space_says_what_decides(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.52)}
    asked = {"evidence": {"test": "t", "pairing": "unpaired", "margin": 0.2}}
    folder = write_sweep(tmp_path / "s", arms, seeds=tuple(range(SEEDS)), phase="evidence", space=asked)
    sweep = load_sweep(folder)
    row = rank_arms(sweep).set_index("arm").loc["b"]
    assert (
        rule_of(sweep) == Rule(margin=0.2, reserve=0.0, on_diverged="left_out")
        and row["decided_by"] == "Welch t-test"
    )
    assert row["p"] == row["unpaired_t_p"] and row["test_verdict"] == "equivalent"


def test_without_evidence_the_paired_t_test_decides(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}, phase="evidence"))
    assert rule_of(sweep) == Rule(pairing="paired", reserve=0.0, on_diverged="left_out")


def test_exploratory_arms_have_neither_p_nor_verdict(tmp_path: Path) -> None:
    asked = {"evidence": {"margin": 0.5}}
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}, seeds=(1, 2, 3), space=asked)
    row = compare(load_sweep(folder), OBJECTIVE).loc["b"]
    assert row["verdict"] == "exploratory" and math.isfinite(row["diff"])
    assert row[[name for name in row.index if name.startswith("p_") or name.endswith("_p")]].isna().all()
    assert math.isnan(row["p"]) and math.isnan(row["q"])


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ({"test": "z"}, "evidence.test is 'z'; it may be permutation or t"),
        ({"pairing": "some"}, "evidence.pairing is 'some'; it may be paired or unpaired"),
        ({"margin": -0.1}, "evidence.margin is -0.1"),
    ],
)
def test_a_rule_that_there_is_not(tmp_path: Path, evidence: dict, said: str) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}))
    object.__setattr__(sweep, "space", {**sweep.space, "evidence": evidence})
    with pytest.raises(AnalysisError, match=said):
        compare(sweep, OBJECTIVE)
