"""Stopped trials count up to where all were still there, and importances rest on the same values."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.explain.importance import importances, share_of
from analysis.stopping.common_samples import at_common_samples, unselected
from analysis.sweep import Sweep, load_sweep
from tests.analysis.factorial import METRIC, factorial, noise
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

ARMS = {"a": Fake(0.6), "b": Fake(0.9), "c": Fake(0.3, stop=0.25)}


def test_arms_are_compared_where_the_first_was_stopped(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", ARMS, seeds=(0, 1, 2)))
    found = at_common_samples(sweep).set_index("arm")
    early = sweep.history[sweep.history["samples"] == 100_000].set_index("trial_id")[OBJECTIVE]
    for arm in ARMS:
        values = [early[f"{arm}-d0-s{seed}"] for seed in range(3)]
        expected = (np.median(values), min(values), max(values))
        assert tuple(found.loc[arm, ["median", "least", "most"]]) == pytest.approx(expected)
    assert set(found["samples"]) == {100_000} and list(found["n"]) == [3, 3, 3]
    assert found.loc["c", "n_stopped"] == 3 and not found.loc[["a", "b"], "n_stopped"].any()
    gaps = [early[f"c-d0-s{seed}"] - early[f"a-d0-s{seed}"] for seed in range(3)]
    assert found.loc["c", "diff"] == pytest.approx(np.median(gaps))
    assert found.loc["c", "shared"] == 3 and found.loc["c", "ahead"] == sum(gap > 0 for gap in gaps)
    assert found.loc["a", "shared"] == 0 and math.isnan(found.loc["a", "diff"])
    assert not {"low", "high", "p", "q"} & set(found)  # draws are no random replicates
    assert sweep.trials.loc[sweep.trials["arm"] == "a", OBJECTIVE].mean() > found.loc["a", "median"] + 0.2


def test_where_nothing_was_stopped_the_values_are_the_final_ones(tmp_path: Path) -> None:
    arms = {"a": Fake(0.6), "b": Fake(0.9, statuses={1: "diverged"})}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
    pool = unselected(sweep)
    assert math.isnan(pool.samples) and len(pool.trials) == 5
    done = sweep.trials[sweep.trials["status"] == "completed"]
    assert list(pool.trials["value"]) == list(done[OBJECTIVE])


def test_a_unit_is_a_draw_and_later_draws_of_tpe_do_not_count(tmp_path: Path) -> None:
    space = {
        "tune": {"optim.lr": {"loguniform": [1e-4, 1e-2]}},
        "search": {"algorithm": "sobol", "seeds": [0, 1]},
    }
    folder = write_sweep(tmp_path / "s", ARMS, seeds=(0, 1, 2), draws=tuple(range(12)), space=space)
    sobol = load_sweep(folder)
    found = at_common_samples(sobol).set_index("arm")
    assert set(found["n"]) == {12} and found.loc["c", "n_stopped"] == 24  # seed 2 is no seed of this search
    early = sobol.history[sobol.history["samples"] == 100_000].set_index("trial_id")[OBJECTIVE]
    means = [early[[f"a-d{draw}-s{seed}" for seed in (0, 1)]].mean() for draw in range(12)]
    assert found.loc["a", "median"] == pytest.approx(np.median(means))
    tpe = replace(sobol, space={**sobol.space, "search": {"algorithm": "tpe", "seeds": [0]}})
    assert set(at_common_samples(tpe)["n"]) == {10}


def test_where_the_lowest_is_best_ahead_is_below(tmp_path: Path) -> None:
    up = load_sweep(write_sweep(tmp_path / "s", ARMS, seeds=(0, 1, 2)))
    down = replace(up, space={**up.space, "objective": {"metric": OBJECTIVE, "mode": "min"}})
    found = [at_common_samples(sweep).set_index("arm") for sweep in (up, down)]
    assert found[0].loc["c", "ahead"] + found[1].loc["c", "ahead"] == 3
    assert list(found[0].index) == list(found[1].index)[::-1]


def test_the_evidence_does_not_enter_where_there_was_a_search(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", ARMS, seeds=(0, 1, 2)))
    sweep.trials.loc[sweep.trials["seed"] == 2, "phase"] = "evidence"
    assert set(unselected(sweep).trials["seed"]) == {0, 1}


def test_a_metric_that_no_report_has_gives_an_empty_table(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", ARMS))
    bare = replace(sweep, history=sweep.history.drop(columns=OBJECTIVE))
    assert at_common_samples(bare)["median"].isna().all() and importances(bare)["share"].isna().all()


# Importances


def additive(levels, seed: int) -> float:
    return (
        3.0 * (levels["mixer"] == "new")
        + 1.0 * (levels["width"] == "wide")
        + noise(*levels.values(), seed, sd=0.3)
    )


TWO = {"mixer": ["old", "new"], "width": ["narrow", "wide"], "idle": ["no", "yes"]}


def test_shares_of_an_additive_function_are_those_of_its_variance() -> None:
    """Variances of two levels, (3/2)^2 and (1/2)^2, and of the noise."""
    found = importances(factorial(TWO, additive, seeds=range(20))).set_index("name")
    whole = 2.25 + 0.25 + 0.09
    assert list(found.index[:2]) == ["mixer", "width"]
    assert found.loc["mixer", "share"] == pytest.approx(2.25 / whole, abs=0.02)
    assert found.loc["width", "share"] == pytest.approx(0.25 / whole, abs=0.02)
    assert found.loc["idle", "share"] < 0.02 and found.loc["seed", "share"] < 0.05
    assert (found["low"] <= found["share"]).all() and (found["share"] <= found["high"]).all()
    assert found.loc["mixer", "kind"] == "factor" and set(found["n"]) == {160}


def test_a_share_is_the_adjusted_one_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    codes, values = np.repeat([0, 1, 2], [4, 7, 9]), rng.normal(size=20)
    values[codes == 2] += 1
    fit = ols("y ~ C(g)", pd.DataFrame({"y": values, "g": codes})).fit()
    table = anova_lm(fit)
    within, total = table.loc["Residual", "mean_sq"], table["sum_sq"].sum() / 19
    assert share_of(codes, values) == pytest.approx(1 - within / total) == pytest.approx(fit.rsquared_adj)
    assert math.isnan(share_of(codes, np.ones(20))) and math.isnan(share_of(np.zeros(20), values))


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
    assert found.loc["d_state", "n"] == 16 and found.loc["d_state", "share"] > 0.95
    assert found.loc["mixer", "n"] == 24


def test_tuned_values_count_in_quarters_and_categories_as_they_are() -> None:
    rng = np.random.default_rng(1)
    sweep = factorial(
        {"mixer": ["old", "new"]},
        lambda of, seed: 0.0,
        seeds=range(40),
        space={"tune": {"lr": {}, "norm": {}, "dead": {}}},
    )
    lr, norm = 10 ** rng.uniform(-4, -2, 80), rng.choice(["pre", "post"], 80)
    trials = sweep.trials.assign(lr=lr, norm=norm, phase="search", seed=0, draw=np.tile(np.arange(40), 2))
    trials[METRIC] = -((np.log10(lr) + 3) ** 2) * 4 + 0.5 * (norm == "pre") + rng.normal(0, 0.1, 80)
    found = importances(Sweep(trials, sweep.history, sweep.decisions, sweep.space)).set_index("name")
    assert found.loc["lr", "n_levels"] == 4 and found.loc["norm", "n_levels"] == 2
    assert found.loc["lr", "share"] > found.loc["norm", "share"] > found.loc["mixer", "share"]
    assert set(found.loc[["lr", "norm"], "kind"]) == {"tuned"} and "dead" not in found.index
    assert "seed" not in found.index


def test_importances_use_values_before_anyone_was_stopped(tmp_path: Path) -> None:
    """Arm c is stopped first; by final values of the survivors it would be missing."""
    sweep = load_sweep(write_sweep(tmp_path / "s", ARMS, seeds=(0, 1, 2)))
    found = importances(sweep).set_index("name").loc["model.mixer.kind"]
    assert found["n"] == 9 and found["samples"] == 100_000
