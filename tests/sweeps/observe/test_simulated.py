"""The simulated course of the evidence is that of the controller, and of what the preview says of it."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.inference.rule import Rule
from sweeps.observe.simulated import looks_run, seeds_at_looks, simulated, trials_at_looks
from tests.sweeps.playing import play, seeds_of
from tests.sweeps.spaces import TUNE, toy_plan

FIVE = [1, 2, 3, 4, 5]
ABLATE = {"bonus": {"levels": {f"l{index}": {"model.bonus": 0.1 * index} for index in range(5)}}}
MEANS = [0.0, 3.0, 0.2, -2.0, 0.1]


@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"futility": 1.5},
        {"margin": 2.0},
        {"margin": 2.5, "question": "best"},
        {"margin": 6.0, "question": "best", "pairing": "paired"},
        {"question": "best", "futility": 1.0, "looks": [2, 4, 8]},
        {"pairing": "paired", "margin": 2.0, "futility": 3.0},
        {"looks": "anytime", "pairing": "paired"},
        {"baseline_seeds": [9, 10, 11, 12, 13]},
    ],
    ids=str,
)
def test_arms_run_to_the_looks_to_which_the_controller_runs_them(
    tmp_path: Path, evidence: dict[str, Any]
) -> None:
    plan = toy_plan(tmp_path, ablate=ABLATE, seeds=list(range(1, 9)), evidence=evidence)
    names = [arm.name for arm in plan.arms]
    assert plan.rule is not None
    sweeps, different = 6, set()
    values = np.random.default_rng(1).standard_normal((sweeps, 5, 13)) + np.array(MEANS)[:, None]
    pairs = [(names.index(arm), names.index(against)) for arm, against in plan.comparisons]
    run = looks_run(values, seeds_at_looks(plan), pairs, plan.rule)
    for sweep in range(sweeps):
        found = play(
            plan,
            tmp_path / f"{sweep}",
            random.Random(0),
            of=lambda arm, seed, sweep=sweep: float(values[sweep, names.index(arm), seed - 1]),
        )
        seeds = dict.fromkeys(names, 0)
        for new in trials_at_looks(plan, run[sweep]):
            seeds = {name: seeds[name] + new.get(name, 0) for name in names}
        assert seeds == {name: len(of_arm) for name, of_arm in seeds_of(found).items()}
        different.add(tuple(seeds.values()))
    assert len(different) > 1  # the values decide


def test_without_looks_there_is_nothing_to_simulate(tmp_path: Path) -> None:
    assert simulated(toy_plan(tmp_path, seeds=FIVE, evidence={"looks": "none"}), None) == []
    assert simulated(toy_plan(tmp_path, seeds=FIVE, evidence={"question": "effects"}), None) == []
    assert trials_at_looks(toy_plan(tmp_path)) == [{"a": 2, "b": 2, "c": 2}]


def test_differences_save_trials_and_equal_arms_alone_do_not(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, seeds=list(range(8)), tune=TUNE, search={"seeds": [9], "keep": 2})
    equal, apart = simulated(plan, None)
    assert 0.97 * 48 < equal.mean_trials <= 48 and apart.mean_trials < equal.mean_trials
    again = simulated(plan, None)
    assert [course.trials for course in again] == [equal.trials, apart.trials]


def test_margin_and_futility_count_where_the_sd_is_known(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, seeds=list(range(8)), evidence={"margin": 1.0})
    unknown, small, large = (simulated(plan, sd)[0].mean_trials for sd in (None, 0.1, 10.0))
    assert small < 3 * 4 < large <= unknown  # mostly equivalent at the first look


def test_a_family_of_many_pairs_is_simulated_in_little_time(tmp_path: Path, cpu_second: float) -> None:
    rule = Rule(question="best", looks=(3, 4, 5))
    pairs = [(one, other) for other in range(30) for one in range(other + 1, 30)]
    seeds = np.array([[look] * 30 for look in rule.looks])
    values = np.random.default_rng(0).standard_normal((4, 30, 5))
    begin = time.process_time()
    assert looks_run(values, seeds, pairs, rule).shape == (4, 30)
    assert time.process_time() - begin < 2 * cpu_second
