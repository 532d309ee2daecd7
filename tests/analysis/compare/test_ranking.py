"""Which trials a number may rest on, and the table of arms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from analysis.compare.ranking import counted_trials, rank_arms, seed_table
from analysis.inference.significance import smallest_p
from analysis.report.limits import cannot_be_concluded
from analysis.sweep import load_sweep
from tests.analysis.synthetic import EXACT, OBJECTIVE, Fake, write_sweep


@pytest.mark.parametrize("status", ["failed", "not_started", "diverged"])
def test_an_arm_that_failed_or_has_not_run_makes_no_other_significant(tmp_path: Path, status: str) -> None:
    seeds = tuple(range(1, 7))
    arms = {"a": Fake(0.5), "b": Fake(0.9), "c": Fake(0.4, statuses=dict.fromkeys(seeds, status))}
    folder = write_sweep(tmp_path / "s", arms, seeds=seeds, phase="evidence", space=EXACT)
    ranked = rank_arms(load_sweep(folder))
    b = ranked.set_index("arm").loc["b"]
    assert b["p"] == smallest_p(6) and b["p_adjusted"] == 2 * smallest_p(6)
    assert b["verdict"] == "too few seeds"


def test_intervals_of_accuracies_stay_where_accuracies_can_be(tmp_path: Path) -> None:
    ends = ["low", "high", "diff_low", "diff_high"]
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    few = rank_arms(load_sweep(write_sweep(tmp_path / "two", arms))).set_index("arm")
    assert few[ends].isna().all(axis=None)  # of two seeds the values say more than an interval
    arms = {"a": Fake(0.003), "b": Fake(0.997)}
    ranked = rank_arms(load_sweep(write_sweep(tmp_path / "four", arms, seeds=(0, 1, 2, 3)))).set_index("arm")
    assert (ranked["low"].min(), ranked["high"].max(), ranked["diff_high"].max()) == (0.0, 1.0, 1.0)
    assert 0.9 < ranked["diff_low"].min() < 1.0


def test_outcomes_are_those_of_the_phase_that_ranks(tmp_path: Path) -> None:
    """Search trials never enter the evidence's mean, so that none is missing from it."""
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}, phase="evidence")
    lost = write_sweep(tmp_path / "lost", {"a": Fake(0.5), "b": Fake(0.9, statuses={0: "diverged"})})
    trials = [pd.read_parquet(each / "trials.parquet") for each in (folder, lost)]
    trials[1]["trial_id"] += "-search"
    pd.concat(trials).to_parquet(folder / "trials.parquet")
    sweep = load_sweep(folder)
    ranked = rank_arms(sweep)
    assert list(ranked["n_trials"]) == [2, 2] and not ranked["n_diverged"].any()
    assert not any("diverged" in limit for limit in cannot_be_concluded(sweep, ranked))


def test_an_arm_without_a_counted_trial_shows_its_furthest(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9, stop=0.25)}
    ranked = rank_arms(load_sweep(write_sweep(tmp_path / "s", arms))).set_index("arm")
    assert ranked.loc["b", "samples"] == 100_000 and math.isnan(ranked.loc["b", "wall_s"])


def test_a_pruned_trial_is_never_averaged_with_a_completed_one(tmp_path: Path) -> None:
    """The search pruned arm b's seed 1 alone: its last value must not enter, in any table."""
    arms = {"a": Fake(0.9), "b": Fake(0.8, statuses={1: "pruned"})}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
    last = sweep.trials.set_index("trial_id")[OBJECTIVE]
    b = rank_arms(sweep).set_index("arm").loc["b"]
    assert np.isfinite(last["b-d0-s1"])
    assert b["mean"] == pytest.approx((last["b-d0-s0"] + last["b-d0-s2"]) / 2)
    assert (b["n"], b["n_pairs"], b["n_pruned"]) == (2, 2, 1)
    assert set(counted_trials(sweep)["status"]) == {"completed"}
    assert math.isnan(seed_table(sweep, OBJECTIVE).loc[1, "b"])


def test_difference_is_paired_over_shared_seeds(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9, statuses={0: "diverged"}), "c": Fake(0.7, statuses={5: "failed"})}
    folder = write_sweep(tmp_path / "s", arms, seeds=tuple(range(8)), phase="evidence", space=EXACT)
    sweep = load_sweep(folder)
    ranked = rank_arms(sweep).set_index("arm")
    value = sweep.trials.set_index("trial_id")[OBJECTIVE]
    for arm, lost in (("b", 0), ("c", 5)):
        shared = [seed for seed in range(8) if seed != lost]
        x, y = ([value[f"{name}-d0-s{seed}"] for seed in shared] for name in (arm, "a"))
        oracle = scipy_stats.ttest_rel(x, y)
        row = ranked.loc[arm]
        assert row["diff"] == pytest.approx(np.mean(x) - np.mean(y))
        assert (row["paired_t_p"], row["paired_diff"]) == pytest.approx((oracle.pvalue, row["diff"]))
        assert 0 < row["diff_low"] < row["diff"] < row["diff_high"]
        assert row["p"] == smallest_p(7) and row["p_adjusted"] == 2 * smallest_p(7)
        assert row["claim"] == "confirmatory" and row["verdict"] == "better"
    assert list(ranked.index) == ["b", "c", "a"] and ranked.loc["b", "n_diverged"] == 1
    assert math.isnan(ranked.loc["a", "diff"]) and ranked.loc["a", "n_pairs"] == 0


def test_a_search_without_evidence_is_exploratory_and_has_no_p(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}, seeds=tuple(range(8))))
    ranked = rank_arms(sweep)
    assert set(ranked["claim"]) == {"exploratory"} and ranked["p"].isna().all()
    assert ranked["diff"].notna().sum() == 1


def test_search_trials_do_not_enter_once_there_is_evidence(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2), phase="evidence"))
    sweep.trials.loc[sweep.trials["seed"] == 2, ["phase", OBJECTIVE]] = ["search", 99.0]
    assert rank_arms(sweep)["mean"].max() < 1 and set(rank_arms(sweep)["n"]) == {1}


def test_of_several_search_draws_the_best_stands_for_the_arm(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.5)}, draws=(0, 1, 2)))
    means = sweep.trials.groupby("draw")[OBJECTIVE].mean()
    assert rank_arms(sweep).loc[0, "mean"] == pytest.approx(means.max())


def test_kept_draws_count_at_seeds_where_all_completed(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2), phase="evidence", draws=(3, 7)))
    sweep.trials.loc[sweep.trials["trial_id"] == "b-d7-s2", "status"] = "failed"
    table, value = seed_table(sweep, OBJECTIVE), sweep.trials.set_index("trial_id")[OBJECTIVE]
    assert table.loc[1, "b"] == pytest.approx((value["b-d3-s1"] + value["b-d7-s1"]) / 2)
    assert math.isnan(table.loc[2, "b"]) and table["a"].notna().all()


def test_mode_min_ranks_the_lowest_first_and_n_too_small_is_flagged(tmp_path: Path) -> None:
    space = EXACT | {"objective": {"metric": "train/loss", "mode": "min"}}
    arms = {"a": Fake(0.5, midpoint=0.9), "b": Fake(0.5, midpoint=0.2)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2), phase="evidence", space=space))
    ranked = rank_arms(sweep)
    assert list(ranked["arm"]) == ["b", "a"] and ranked.loc[0, "diff"] < 0
    assert list(ranked["verdict"]) == ["too few seeds", "baseline"]


def test_a_metric_that_is_not_finite_does_not_count(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}, phase="evidence"))
    sweep.trials.loc[sweep.trials["trial_id"] == "b-d0-s0", OBJECTIVE] = math.inf
    assert rank_arms(sweep).set_index("arm").loc["b", "n"] == 1


def test_too_small_counts_the_family_as_holm_does(tmp_path: Path) -> None:
    """Seven seeds are too few for the first of four comparisons, but enough after one with eight."""
    arms = {
        "a": Fake(0.2),
        "b": Fake(0.9),
        "c": Fake(0.9),
        "d": Fake(0.9),
        "e": Fake(0.9, statuses={3: "failed"}),
    }
    seven, eight = tuple(range(7)), tuple(range(8))
    few = load_sweep(write_sweep(tmp_path / "few", arms, seeds=seven, phase="evidence", space=EXACT))
    more = load_sweep(write_sweep(tmp_path / "more", arms, seeds=eight, phase="evidence", space=EXACT))
    few, more = rank_arms(few).set_index("arm"), rank_arms(more).set_index("arm")
    assert set(few.loc[["b", "c", "d", "e"], "verdict"]) == {"too few seeds"}
    assert "too few seeds" not in set(more["verdict"]) and more.loc["e", "n_pairs"] == 7
    assert (few["p_adjusted"].dropna() > 0.05).all() and (more["p_adjusted"].dropna() <= 0.05).all()
