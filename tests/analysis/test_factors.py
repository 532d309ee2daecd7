"""Effects and interactions, against made-up truths and scipy's t-tests."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.compare.ranking import seed_table
from analysis.explain.effects import effects
from analysis.explain.interactions import cell_means, crossed, interaction_weights, interactions
from analysis.inference.contrasts import contrast
from analysis.inference.intervals import ALPHA
from analysis.inference.significance import holm
from analysis.sweep import load_sweep
from tests.analysis.factorial import METRIC, factorial, noise
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

TWO = {"mixer": ["old", "new"], "width": ["narrow", "wide"]}
SSM = {"mixer": ["attention", "mamba", "mamba2"], "width": ["narrow", "wide"], "d_state": ["16", "64"]}


def is_ssm(levels) -> bool:
    return levels["mixer"] != "attention"


def score(levels, seed: int, interaction: float = 0.0, seed_sd: float = 1.0) -> float:
    value = 2.0 * (levels["mixer"] == "new") - 1.0 * (levels["width"] == "wide")
    value += interaction * (levels["mixer"] == "new" and levels["width"] == "wide")
    return value + noise("seed", seed, sd=seed_sd) + noise(*levels.values(), seed, sd=0.5)


def test_an_effect_is_the_mean_over_matched_arms_paired_by_seed() -> None:
    sweep = factorial(TWO, score)
    table, found = seed_table(sweep, METRIC), effects(sweep).set_index("factor")
    gaps = ((table["new+narrow"] - table["old+narrow"]) + (table["new+wide"] - table["old+wide"])) / 2
    oracle = stats.ttest_1samp(gaps, 0)
    row, ends = found.loc["mixer"], oracle.confidence_interval()
    assert (row["level"], row["reference"], row["n_arms"], row["n"]) == ("new", "old", 2, 8)
    assert row["effect"] == pytest.approx(gaps.mean()) and row["interval"] == "t"
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    assert found.loc["width", "low"] < -1.0 < found.loc["width", "high"]


def test_one_factor_alone_has_the_effects_of_the_comparison() -> None:
    sweep = factorial({"mixer": ["old", "new"]}, lambda of, seed: score({**of, "width": "narrow"}, seed))
    table = seed_table(sweep, METRIC)
    assert effects(sweep).loc[0, "effect"] == pytest.approx((table["new"] - table["old"]).mean())


def test_what_depends_on_a_factor_is_averaged_over() -> None:
    """d_state exists for SSM mixers alone: each is its mean over d_state against attention."""
    base = {"attention": 0.0, "mamba": 1.0, "mamba2": 3.0}
    sweep = factorial(
        SSM,
        lambda of, seed: base[of["mixer"]] + 0.5 * (of["d_state"] == "64"),
        only={"d_state": is_ssm},
    )
    assert len(sweep.arms) == 10
    found = effects(sweep).set_index(["factor", "level"])
    assert found.loc[("mixer", "mamba"), "effect"] == pytest.approx(1.25)
    assert found.loc[("mixer", "mamba2"), "effect"] == pytest.approx(3.25)
    assert found.loc[("mixer", "mamba"), "n_arms"] == 2
    assert found.loc[("d_state", "64"), "effect"] == pytest.approx(0.5)
    assert found.loc[("d_state", "64"), "n_arms"] == 4 and found.loc[("d_state", "64"), "reference"] == "16"


def test_one_at_a_time_has_effects_and_no_interaction() -> None:
    sweep = factorial(TWO, score, keep=lambda of: list(of.values()) != ["new", "wide"])
    assert list(effects(sweep)["n_arms"]) == [1, 1]
    assert crossed(sweep) == [] and interactions(sweep).empty
    assert cell_means(sweep, "mixer", "width").empty


def test_a_level_without_a_match_has_no_effect() -> None:
    sweep = factorial(TWO, score, keep=lambda of: list(of.values()) in (["old", "narrow"], ["new", "wide"]))
    found = effects(sweep)
    assert list(found["n_arms"]) == [0, 0] and found["effect"].isna().all() and list(found["n"]) == [0, 0]


def test_seeds_at_which_an_arm_has_no_value_do_not_enter() -> None:
    sweep = factorial(TWO, score)
    sweep.trials.loc[sweep.trials["trial_id"] == "new+wide-d0-s3", "status"] = "failed"
    assert list(effects(sweep)["n"]) == [7, 7]


def paired_interaction(table: pd.DataFrame) -> pd.Series:
    return table["new+wide"] - table["old+wide"] - table["new+narrow"] + table["old+narrow"]


def test_an_interaction_is_a_t_test_of_the_difference_of_differences_at_each_seed() -> None:
    sweep = factorial(TWO, lambda of, seed: score(of, seed, 0.6, 2.0))
    gaps = paired_interaction(seed_table(sweep, METRIC))
    (row,) = interactions(sweep).to_dict("records")
    oracle = stats.ttest_1samp(gaps, 0)
    ends = oracle.confidence_interval()
    assert (row["factor_a"], row["factor_b"]) == ("mixer", "width")
    assert (row["level_a"], row["level_b"], row["n_arms"], row["n"]) == ("new", "wide", 4, 8)
    assert row["estimate"] == pytest.approx(gaps.mean()) and row["values"] == pytest.approx(tuple(gaps))
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    assert row["p"] == row["p_holm"] == pytest.approx(oracle.pvalue) and row["note"] == ""


def test_unpaired_effects_and_interactions_take_every_seed_of_each_arm() -> None:
    """Other seeds for one arm: nothing is shared by all, and the arms are independent samples."""
    sweep = factorial(TWO, score, space={"evidence": {"pairing": "unpaired"}})
    moved = sweep.trials["arm"] == "new+wide"
    sweep.trials.loc[moved, "seed"] += 100
    (row,) = interactions(sweep).to_dict("records")
    cells = sweep.trials.groupby("arm")[METRIC]
    error = math.sqrt((cells.var(ddof=1) / 8).sum())
    assert row["n"] == 8 and row["values"] == ()
    parts = cells.var(ddof=1) / 8
    df = parts.sum() ** 2 / (parts**2 / 7).sum() - 1  # see intervals.unequal_df
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(row["estimate"]) / error, df))
    found = effects(sweep).set_index("factor")
    assert list(found["n"]) == [8, 8] and found["low"].notna().all()
    paired = replace(sweep, space={**sweep.space, "evidence": {"pairing": "paired"}})
    assert interactions(paired).loc[0, "note"] == "fewer than two seeds" and list(effects(paired)["n"]) == [
        0,
        0,
    ]


def test_cells_have_the_mean_of_their_arms() -> None:
    sweep = factorial(TWO, lambda of, seed: score(of, seed, 5.0, 2.0))
    table = seed_table(sweep, METRIC)
    cells = cell_means(sweep, "mixer", "width").set_index(["level_a", "level_b"])
    assert list(cells.index) == list(itertools.product(["old", "new"], ["narrow", "wide"]))
    assert cells.loc[("new", "wide"), "mean"] == pytest.approx(table["new+wide"].mean())
    assert cells.loc[("new", "wide"), "n"] == 8


def test_below_four_seeds_the_values_stand_for_the_interval() -> None:
    few, more = (factorial(TWO, score, seeds=range(n)) for n in (3, 4))
    for found in (effects(few), interactions(few), cell_means(few, "mixer", "width")):
        assert found["low"].isna().all() and (found["values"].map(len) == 3).all()
    for found in (effects(more), interactions(more), cell_means(more, "mixer", "width")):
        assert found["low"].notna().all()


def test_intervals_of_cells_end_where_accuracies_do(tmp_path: Path) -> None:
    kinds = list(itertools.product("ab", (2, 4)))
    arms = {f"{kind}{n}": Fake(0.5, levels={"kind": kind, "n": n}) for kind, n in kinds}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3, 4), phase="evidence", test=False))
    sweep.trials[OBJECTIVE] = (sweep.trials["seed"] > 1).astype(float).clip(lower=0.6)
    cells = cell_means(sweep, "kind", "n")
    assert cells["low"].between(0.5, 0.6).all() and list(cells["high"]) == [1.0] * 4
    sweep.trials[OBJECTIVE] = (sweep.trials["seed"] > 1).astype(float)  # 0 to 1: all that there is
    assert cell_means(sweep, "kind", "n")["low"].isna().all()


def test_a_pair_is_crossed_within_the_contexts_that_hold_it() -> None:
    def luck(levels, seed: int) -> float:
        return noise(*levels.values(), seed) + noise(seed)

    sweep = factorial(SSM, luck, only={"d_state": is_ssm})
    found = interactions(sweep).set_index(["factor_a", "factor_b"])
    assert list(found.groupby(level=[0, 1], sort=False).size()) == [2, 1, 1]  # contrasts a pair
    assert list(found.loc[("mixer", "width"), "level_a"]) == ["mamba", "mamba2"]
    assert list(found.loc[("mixer", "width"), "n_arms"]) == [6, 6]  # both mambas have two d_state
    assert found.loc[("mixer", "d_state"), "n_arms"] == 8
    p = found["p"].to_numpy()
    assert found["p_holm"].tolist() == pytest.approx(multipletests(p, method="holm")[1].tolist())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": range(1)}, "fewer than two seeds"),
        ({"value": lambda of, seed: 0.0}, "no spread over seeds"),
    ],
)
def test_where_there_is_no_test_the_note_says_why(change: dict, said: str) -> None:
    (row,) = interactions(factorial(TWO, **{"value": score, **change})).to_dict("records")
    assert said in row["note"] and math.isnan(row["p"]) and math.isnan(row["p_holm"])


def test_a_cell_without_a_trial_and_exploratory_sweeps_are_told() -> None:
    sweep = factorial(TWO, score)
    sweep.trials.loc[sweep.trials["arm"] == "new+wide", "status"] = "failed"
    assert interactions(sweep).loc[0, "note"] == "new+wide has no completed trial"
    looked = factorial(TWO, score)
    looked.trials["phase"] = "search"
    row = interactions(looked).loc[0]
    assert math.isfinite(row["estimate"]) and math.isnan(row["p"]) and "exploratory" in row["note"]


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
@pytest.mark.parametrize(("levels_a", "levels_b"), [(2, 2), (4, 3)])
def test_arms_of_unequal_spread_interact_falsely_in_5_percent_of_sweeps(
    pairing: str, levels_a: int, levels_b: int
) -> None:
    """2,000 null sweeps of five seeds, SDs of arms up to 1 to 17 apart: a claim in 5% of them, within three
    standard errors (1.5 points). An F test with one pooled spread: 7% of 2 x 2, 14% of 4 x 3."""
    rng, spreads = np.random.default_rng(levels_a), (1.3, 1.6, 6.5, 8.3, 22.7)
    factors = {"a": [f"a{i}" for i in range(levels_a)], "b": [f"b{i}" for i in range(levels_b)]}
    sweep = factorial(factors, lambda of, seed: 0.0, seeds=range(5), space={"evidence": {"pairing": pairing}})
    weights = [
        [of.get(arm, 0.0) for arm in sweep.arms] for of in interaction_weights(sweep, "a", "b").values()
    ]
    assert len(weights) == (levels_a - 1) * (levels_b - 1)
    claims = 0
    for _ in range(2000):
        values = rng.normal(0, rng.choice(spreads, levels_a * levels_b), (5, levels_a * levels_b))
        p = [contrast(values, of, pairing).p for of in weights]
        claims += bool((holm(p) <= ALPHA).any())
    assert claims / 2000 < 0.065
