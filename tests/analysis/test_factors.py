"""Effects and interactions, against made-up truths, scipy and statsmodels' analysis of variance."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.compare.ranking import seed_table
from analysis.explain.effects import effects
from analysis.explain.interactions import (
    BLOCKS,
    MIXED,
    cell_means,
    crossed,
    interaction_estimates,
    interactions,
)
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
    assert interaction_estimates(sweep, "mixer", "width").empty


def test_a_level_without_a_match_has_no_effect() -> None:
    sweep = factorial(TWO, score, keep=lambda of: list(of.values()) in (["old", "narrow"], ["new", "wide"]))
    found = effects(sweep)
    assert list(found["n_arms"]) == [0, 0] and found["effect"].isna().all() and list(found["n"]) == [0, 0]


def test_seeds_at_which_an_arm_has_no_value_do_not_enter() -> None:
    sweep = factorial(TWO, score)
    sweep.trials.loc[sweep.trials["trial_id"] == "new+wide-d0-s3", "status"] = "failed"
    assert list(effects(sweep)["n"]) == [7, 7]


@pytest.mark.parametrize("seed_sd", [2.0, 0.3, 0.0])
def test_interaction_is_the_analysis_of_variance_on_complete_data(seed_sd: float) -> None:
    """With seeds as blocks; where the mixed model finds no variance between them it is that itself."""
    sweep = factorial(TWO, lambda of, seed: score(of, seed, 0.6, seed_sd))
    (row,) = interactions(sweep).to_dict("records")
    long = sweep.trials.merge(
        pd.DataFrame([{"arm": arm, **of["levels"]} for arm, of in sweep.resolved["arms"].items()]), on="arm"
    ).rename(columns={METRIC: "y"})
    table = anova_lm(ols("y ~ C(mixer) * C(width) + C(seed)", long).fit())
    oracle, squares = table.loc["C(mixer):C(width)"], table["mean_sq"]
    differ = squares["C(seed)"] > squares["Residual"]
    assert row["method"] == (MIXED if differ else BLOCKS) and (row["note"] == "") == differ
    if differ:
        assert row["seed_sd"] == pytest.approx(
            math.sqrt((squares["C(seed)"] - squares["Residual"]) / 4), rel=1e-2
        )
    assert row["residual_sd"] == pytest.approx(math.sqrt(squares["Residual"]), rel=1e-3)
    assert row["f"] == pytest.approx(oracle["F"], rel=1e-3)
    assert row["p"] == row["q"] == pytest.approx(oracle["PR(>F)"], rel=1e-2)
    assert (row["df"], row["df_error"], row["n_arms"], row["n_seeds"]) == (1, 21, 4, 8)


def test_the_estimate_is_the_difference_of_differences_at_each_seed() -> None:
    sweep = factorial(TWO, lambda of, seed: score(of, seed, 5.0, 2.0))
    table = seed_table(sweep, METRIC)
    (row,) = interaction_estimates(sweep, "mixer", "width").to_dict("records")
    wanted = (table["new+wide"] - table["old+wide"] - table["new+narrow"] + table["old+narrow"]).mean()
    assert (row["level_a"], row["level_b"]) == ("new", "wide")
    assert row["estimate"] == pytest.approx(wanted) and row["low"] < wanted < row["high"]
    assert row["low"] > 0
    cells = cell_means(sweep, "mixer", "width").set_index(["level_a", "level_b"])
    assert cells.loc[("new", "wide"), "mean"] == pytest.approx(table["new+wide"].mean())
    assert cells.loc[("new", "wide"), "n"] == 8


def test_intervals_of_cells_end_where_accuracies_do(tmp_path: Path) -> None:
    kinds = list(itertools.product("ab", (2, 4)))
    arms = {f"{kind}{n}": Fake(0.5, levels={"kind": kind, "n": n}) for kind, n in kinds}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3), phase="evidence", test=False))
    sweep.trials[OBJECTIVE] = (sweep.trials["seed"] > 1).astype(float)
    cells = cell_means(sweep, "kind", "n")
    assert list(cells["low"]) == [0.0] * 4 and list(cells["high"]) == [1.0] * 4


def test_a_pair_is_crossed_within_the_contexts_that_hold_it() -> None:
    def luck(levels, seed: int) -> float:
        return noise(*levels.values(), seed) + noise(seed)

    sweep = factorial(SSM, luck, only={"d_state": is_ssm})
    found = interactions(sweep).set_index(["factor_a", "factor_b"])
    assert set(found.index) == {("mixer", "width"), ("mixer", "d_state"), ("width", "d_state")}
    assert found.loc[("mixer", "d_state"), "n_arms"] == 8 and found.loc[("mixer", "d_state"), "df"] == 1
    assert found.loc[("mixer", "width"), "n_arms"] == 10 and found.loc[("mixer", "width"), "df"] == 2
    assert found["p"].between(0, 1).all()
    assert found["q"].tolist() == pytest.approx(stats.false_discovery_control(found["p"]).tolist())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": range(2)}, "2 seeds are too few"),
        ({"value": lambda of, seed: 0.0}, "all values are equal"),
    ],
)
def test_where_there_is_no_test_the_note_says_why(change: dict, said: str) -> None:
    (row,) = interactions(factorial(TWO, **{"value": score, **change})).to_dict("records")
    assert said in row["note"] and math.isnan(row["f"]) and math.isnan(row["p"])


def test_a_cell_without_a_trial_and_exploratory_sweeps_are_told() -> None:
    sweep = factorial(TWO, score)
    sweep.trials.loc[sweep.trials["arm"] == "new+wide", "status"] = "failed"
    assert interactions(sweep).loc[0, "note"] == "a cell has no completed trial"
    looked = factorial(TWO, score)
    looked.trials["phase"] = "search"
    row = interactions(looked).loc[0]
    assert math.isfinite(row["f"]) and math.isnan(row["p"]) and "exploratory" in row["note"]
