"""Shares of the variance of ranks: their definition, the ranks within arms, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols

from analysis.explain.importance import importances, share_of
from analysis.sweep import Sweep, load_sweep
from tests.analysis.factorial import METRIC, factorial, noise
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

TWO = {"mixer": ["old", "new"], "width": ["narrow", "wide"], "idle": ["no", "yes"]}


def additive(levels, seed: int) -> float:
    return (
        3.0 * (levels["mixer"] == "new")
        + 1.0 * (levels["width"] == "wide")
        + noise(*levels.values(), seed, sd=0.3)
    )


def tuned(value, draws: int = 40, arms=("old", "new")) -> Sweep:
    """A search of as many draws an arm of `lr`, `norm` and `dead`; `value` is of the trials' table."""
    sweep = factorial(
        {"mixer": list(arms)},
        lambda of, seed: 0.0,
        seeds=range(draws),
        space={"tune": {"lr": {}, "norm": {}, "missing": {}}, "search": {"seeds": [0]}},
    )
    rng, n = np.random.default_rng(1), draws * len(arms)
    trials = sweep.trials.assign(
        lr=10 ** rng.uniform(-4, -2, n), norm=rng.choice(["pre", "post"], n), phase="search", seed=0,
        draw=np.tile(np.arange(draws), len(arms)),
    )  # fmt: skip
    return replace(sweep, trials=trials.assign(**{METRIC: value(trials) + rng.normal(0, 0.1, n)}))


def by_rate(trials: pd.DataFrame) -> pd.Series:
    return -((np.log10(trials["lr"]) + 3) ** 2) * 4 + 0.5 * (trials["norm"] == "pre")


def test_a_share_is_the_adjusted_one_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    groups, values = np.repeat([0, 1, 2], [4, 7, 9]), rng.normal(size=20)
    values[groups == 2] += 1
    fit = ols("y ~ C(g)", pd.DataFrame({"y": values, "g": groups})).fit()
    assert share_of(groups, values) == pytest.approx(fit.rsquared_adj)
    assert math.isnan(share_of(groups, np.ones(20))) and math.isnan(share_of(np.zeros(20), values))


def test_within_pools_each_pools_mean_takes_a_degree_of_freedom() -> None:
    """As if the pools were in the model: 1 - (residual mean square with groups) / (without)."""
    rng = np.random.default_rng(3)
    pools, groups = np.repeat([0, 1, 2], 8), np.tile([0, 0, 1, 1], 6)
    values = rng.normal(size=24) + groups
    values -= np.array([values[pools == pool].mean() for pool in range(3)])[pools]
    frame = pd.DataFrame({"y": values, "g": groups, "p": pools})
    without, with_it = (ols(f"y ~ C(p){more}", frame).fit().mse_resid for more in ("", " + C(g)"))
    assert share_of(groups, values, 3) == pytest.approx(1 - with_it / without)  # the design is balanced


def test_a_factors_share_is_of_the_ranks_of_all_trials() -> None:
    found = importances(factorial(TWO, additive, seeds=range(20))).set_index("name")
    sweep = factorial(TWO, additive, seeds=range(20))
    frame = pd.DataFrame({"y": stats.rankdata(sweep.trials[METRIC]), "g": sweep.trials["arm"].str[:3]})
    assert found.loc["mixer", "share"] == pytest.approx(ols("y ~ C(g)", frame).fit().rsquared_adj)
    assert list(found.index[:2]) == ["mixer", "width"] and set(found["n"]) == {160}
    assert (found.loc[["mixer", "width"], "share"] > found.loc[["mixer", "width"], "chance"]).all()
    assert found.loc["idle", "share"] < 0.05 and found.loc["seed", "share"] < 0.1
    assert set(found["note"]) == {""} and set(found["metric"]) == {METRIC}


def test_shuffled_ranks_exceed_what_is_said_of_chance_in_5_percent() -> None:
    above = []
    for seed in range(200):
        sweep = factorial({"a": ["x", "y", "z"]}, lambda of, at, seed=seed: noise(*of.values(), at, seed))
        row = importances(sweep).set_index("name").loc["a"]
        above.append(row["share"] > row["chance"])
    assert 0.01 < np.mean(above) < 0.1


def test_a_conditional_factor_is_judged_where_it_exists() -> None:
    def value(levels, seed: int) -> float:
        return (
            5.0 * (levels["mixer"] == "attention")
            + 2.0 * (levels["d_state"] == "64")
            + noise(*levels.values(), seed, sd=0.1)
        )

    factors = {"mixer": ["attention", "mamba"], "d_state": ["16", "64"]}
    sweep = factorial(factors, value, only={"d_state": lambda of: of["mixer"] == "mamba"})
    found = importances(sweep).set_index("name")
    assert found.loc["d_state", "n"] == 16 and found.loc["d_state", "share"] > 0.7
    assert found.loc["mixer", "n"] == 24


def test_tuned_values_count_in_quarters_and_categories_as_they_are() -> None:
    found = importances(tuned(by_rate)).set_index("name")
    assert found.loc["lr", "n_levels"] == 4 and found.loc["norm", "n_levels"] == 2
    assert found.loc["lr", "share"] > found.loc["norm", "share"] > found.loc["mixer", "share"]
    assert set(found.loc[["lr", "norm"], "kind"]) == {"tuned"} and "missing" not in found.index
    assert "seed" not in found.index


def test_what_separates_the_arms_does_not_hide_a_tuned_value() -> None:
    """Within its arm each draw has the rank that it would have without the arm's own level."""
    plain = importances(tuned(by_rate)).set_index("name")
    apart = importances(tuned(lambda trials: by_rate(trials) + 50 * (trials["arm"] == "new")))
    apart = apart.set_index("name")
    for name in ("lr", "norm"):
        assert apart.loc[name, "share"] == pytest.approx(plain.loc[name, "share"])
    assert apart.loc["mixer", "share"] > 0.7


def test_a_draw_is_the_mean_over_its_seeds() -> None:
    one = tuned(by_rate)
    other = one.trials.assign(seed=1, **{METRIC: one.trials[METRIC].to_numpy()[::-1]})
    both = pd.concat([one.trials, other], ignore_index=True)
    space = {**one.space, "search": {"seeds": [0, 1]}}
    found = importances(replace(one, trials=both, space=space)).set_index("name")
    assert found.loc["lr", "n"] == 80 and found.loc["seed", "n"] == 160


def test_ties_are_refused_with_a_reason() -> None:
    """Four of five arms are 0 in all draws, as a metric is before anything is solved."""
    arms = ("a", "b", "c", "d", "e")
    sweep = tuned(by_rate, 20, arms)
    sweep.trials.loc[sweep.trials["arm"] != "e", METRIC] = 0.0
    found = importances(sweep).set_index("name")
    assert math.isnan(found.loc["mixer", "share"]) and math.isnan(found.loc["mixer", "chance"])
    assert found.loc["mixer", "note"] == "ties: 80 of 100 values are equal"
    assert found.loc["lr", "note"] == "without a, b, c and d, where ties rule"
    assert found.loc["lr", "n"] == 20 and found.loc["lr", "share"] > 0.3
    sweep.trials[METRIC] = 0.0
    found = importances(sweep).set_index("name")
    assert found["share"].isna().all()
    assert found.loc["lr", "note"] == "ties: more than half of the draws of every arm have the same value"


def test_values_are_the_judged_ones_before_anyone_was_stopped(tmp_path: Path) -> None:
    """Arm c is stopped first; by final values of the survivors it would be missing."""
    arms = {"a": Fake(0.6), "b": Fake(0.9), "c": Fake(0.3, stop=0.25)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
    found = importances(sweep).set_index("name").loc["model.mixer.kind"]
    assert found["n"] == 9 and found["at"] == 100_000 and found["metric"] == "val/cell_accuracy"
    asked = importances(sweep, OBJECTIVE).set_index("name").loc["model.mixer.kind"]
    assert asked["metric"] == OBJECTIVE
    bare = replace(sweep, history=sweep.history.drop(columns="val/cell_accuracy"))
    assert importances(bare)["share"].isna().all()
