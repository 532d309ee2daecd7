"""From the baseline to the best arm, one factor at a time, over arms that were run."""

from __future__ import annotations

import pytest

from analysis.compare.ranking import seed_table
from analysis.explain.ablation_path import ablation_path
from tests.analysis.factorial import METRIC, factorial, noise

THREE = {"mixer": ["old", "new"], "width": ["narrow", "wide"], "gate": ["off", "on"]}
GAINS = {"new": 3.0, "wide": 1.0, "on": 0.3}


def value(levels, seed: int) -> float:
    return sum(GAINS.get(level, 0.0) for level in levels.values()) + noise(*levels.values(), seed, sd=0.01)


def test_the_largest_gain_comes_first_and_the_gains_add_up() -> None:
    sweep = factorial(THREE, value)
    path, table = ablation_path(sweep), seed_table(sweep, METRIC)
    assert list(path["arm"]) == ["old+narrow+off", "new+narrow+off", "new+wide+off", "new+wide+on"]
    assert list(path["flipped"])[1:] == ["mixer: old to new", "width: narrow to wide", "gate: off to on"]
    gap = table["new+narrow+off"] - table["old+narrow+off"]
    assert (
        path.loc[1, "gain"] == pytest.approx(gap.mean())
        and path.loc[1, "low"] < gap.mean() < path.loc[1, "high"]
    )
    assert path["gain"][1:].sum() == pytest.approx(path["mean"].iloc[-1] - path["mean"].iloc[0])
    assert path["share"][1:].sum() == pytest.approx(1.0) and (path["not_run"] == "").all()


def test_the_lowest_is_best_where_the_objective_says_so() -> None:
    down = {"objective": {"metric": METRIC, "mode": "min"}}
    sweep = factorial(THREE, lambda of, seed: -value(of, seed), space=down)
    path = ablation_path(sweep)
    assert path["arm"].iloc[-1] == "new+wide+on" and (path["gain"][1:] < 0).all()


def test_an_arm_that_was_not_run_is_said() -> None:
    sweep = factorial(THREE, value, keep=lambda of: "".join(of.values()) != "newnarrowoff")
    path = ablation_path(sweep)
    assert list(path["arm"]) == ["old+narrow+off", "old+wide+off", "new+wide+off", "new+wide+on"]
    assert path.loc[1, "not_run"] == "mixer: old to new"
    failed = factorial(THREE, value)
    failed.trials.loc[failed.trials["arm"] == "new+narrow+off", "status"] = "failed"
    assert ablation_path(failed).loc[1, "not_run"] == "mixer: old to new"


def test_where_nothing_lies_between_it_is_one_step() -> None:
    ends = (["old", "narrow", "off"], ["new", "wide", "on"])
    path = ablation_path(factorial(THREE, value, keep=lambda of: list(of.values()) in ends))
    assert list(path["arm"]) == ["old+narrow+off", "new+wide+on"]
    assert path.loc[1, "flipped"].count("; ") == 2 and path.loc[1, "not_run"] == path.loc[1, "flipped"]


def test_what_exists_with_the_new_level_alone_comes_along() -> None:
    factors = {"mixer": ["attention", "mamba"], "width": ["narrow", "wide"], "d_state": ["16", "64"]}
    gains = {"mamba": 2.0, "wide": 1.0, "64": 0.5}
    sweep = factorial(
        factors,
        lambda of, seed: sum(gains.get(level, 0.0) for level in of.values() if level),
        only={"d_state": lambda of: of["mixer"] == "mamba"},
    )
    path = ablation_path(sweep)
    assert list(path["arm"]) == ["attention+narrow", "mamba+narrow+64", "mamba+wide+64"]


def test_a_baseline_that_is_best_has_no_path() -> None:
    assert ablation_path(factorial(THREE, lambda of, seed: -value(of, seed))).empty
    lost = factorial(THREE, value)
    lost.trials.loc[lost.trials["arm"] == lost.baseline, "status"] = "failed"
    assert ablation_path(lost).empty
