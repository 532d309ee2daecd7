"""Stopped trials count up to where all were still there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.report import page
from analysis.report.sections.stopped import common_samples
from analysis.stopping.common_samples import at_common_samples, unselected
from analysis.sweep import load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, at_equal_flops, write_sweep

ARMS = {"a": Fake(0.6), "b": Fake(0.9), "c": Fake(0.3, stop=0.25)}


def test_arms_are_compared_where_the_first_was_stopped(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "s", ARMS, seeds=(0, 1, 2)))
    found = at_common_samples(sweep).set_index("arm")
    early = sweep.history[sweep.history["samples"] == 100_000].set_index("trial_id")[OBJECTIVE]
    for arm in ARMS:
        values = [early[f"{arm}-d0-s{seed}"] for seed in range(3)]
        expected = (np.median(values), min(values), max(values))
        assert tuple(found.loc[arm, ["median", "least", "most"]]) == pytest.approx(expected)
    assert set(found["at"]) == {100_000} and list(found["n"]) == [3, 3, 3]
    assert found.loc["c", "n_stopped"] == 3 and not found.loc[["a", "b"], "n_stopped"].any()
    gaps = [early[f"c-d0-s{seed}"] - early[f"a-d0-s{seed}"] for seed in range(3)]
    assert found.loc["c", "diff"] == pytest.approx(np.median(gaps))
    assert found.loc["c", "shared"] == 3 and found.loc["c", "ahead"] == sum(gap > 0 for gap in gaps)
    assert found.loc["a", "shared"] == 0 and math.isnan(found.loc["a", "diff"])
    assert not {"low", "high", "p", "q"} & set(found)  # draws are no random replicates
    assert sweep.trials.loc[sweep.trials["arm"] == "a", OBJECTIVE].mean() > found.loc["a", "median"] + 0.2


def test_each_arm_has_its_own_values_in_whatever_order_arms_are_declared(tmp_path: Path) -> None:
    arms = {"z": Fake(0.6), "m": Fake(0.9), "a": Fake(0.3, stop=0.25)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
    found = at_common_samples(sweep).set_index("arm")
    early = sweep.history[sweep.history["samples"] == 100_000].set_index("trial_id")[OBJECTIVE]
    for arm in arms:
        assert found.loc[arm, "median"] == np.median([early[f"{arm}-d0-s{seed}"] for seed in range(3)])
    assert found["n_stopped"].to_dict() == {"z": 0, "m": 0, "a": 3}
    assert math.isnan(found.loc["z", "diff"])


def test_where_nothing_was_stopped_the_values_are_the_final_ones(tmp_path: Path) -> None:
    arms = {"a": Fake(0.6), "b": Fake(0.9, statuses={1: "diverged"})}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
    pool = unselected(sweep)
    assert math.isnan(pool.at) and len(pool.trials) == 5
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
    assert at_common_samples(bare)["median"].isna().all()


def test_arms_of_equal_training_flops_are_compared_at_common_flops(tmp_path: Path) -> None:
    arms = {"a": Fake(0.6), "b": Fake(0.9, flops=2 * 40_000_000 + 1), "c": Fake(0.3, stop=0.3)}
    sweep = at_equal_flops(load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2))), 1.6e13)
    found = at_common_samples(sweep).set_index("arm")
    assert set(found["at"]) == {120_000 * 40e6}
    for arm, samples in {"a": 120_000, "b": 60_000, "c": 120_000}.items():  # b's report is a little beyond
        there = sweep.history[sweep.history["samples"] == samples].set_index("trial_id")[OBJECTIVE]
        assert found.loc[arm, "median"] == np.median([there[f"{arm}-d0-s{seed}"] for seed in range(3)])
    assert "after 4.8T FLOPs" in page.html(common_samples(sweep))
