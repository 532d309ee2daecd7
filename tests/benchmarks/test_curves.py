"""Sweeps over recorded learning curves: reading them, playing them, and the tests on reruns of one config."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.inference.intervals import ALPHA
from benchmarks import curve_tables, decisions
from benchmarks.curve_sweeps import (
    EVIDENCE,
    FULL,
    make_plans,
    near_best,
    playable,
    shuffled,
    sweeps_of,
    true_means,
)
from benchmarks.curves import COLUMNS, REPORTS, Task, read_tasks, resampled
from benchmarks.reruns import RULES, false_claims, groups_of
from benchmarks.simulated import play

ARMS, POINTS, SEEDS, STEPS = 5, 4, 5, 1000


def rows_of(task: str, arm: int, point: int, seed: int, value: float, **changed: Any) -> list[dict[str, Any]]:
    """A run's reports: a loss that falls to `value`, at steps which no other run has."""
    steps = np.unique(np.linspace(1 + seed, STEPS, 7 + arm + point).astype(int))
    losses = value + 2 * (1 - steps / STEPS)
    same = {
        "dataset": "made up", "task": task, "arm": f"arm {arm}", "config": f"point {point}", "seed": seed,
        "steps": STEPS, "higher_is_better": False, "note": "ignored", **changed,
    }  # fmt: skip
    return [{**same, "step": int(at), "value": float(loss)} for at, loss in zip(steps, losses, strict=True)]


def written(folder: Path, rows: list[dict[str, Any]], reached: dict[str, list[bool]] | None = None) -> Path:
    frame = pd.DataFrame(rows).astype({"arm": "category", "value": "float32"})
    frame.sample(frac=1, random_state=0).to_parquet(folder / "made.parquet")
    if reached:
        runs = pd.DataFrame([{"task": t, "reached": r} for t, all_of in reached.items() for r in all_of])
        with gzip.open(folder / "made_runs.csv.gz", "wt") as file:
            runs.to_csv(file, index=False)
    return folder


def tuned_rows(noise: float = 0.01) -> list[dict[str, Any]]:
    """Arm 3 has the lowest loss, at its point 1."""
    rng = np.random.default_rng(0)
    return [
        row
        for arm in range(ARMS)
        for point in range(POINTS)
        for seed in range(SEEDS)
        for row in rows_of(
            "tuned", arm, point, seed, 1 + abs(arm - 3) + 2 * abs(point - 1) + noise * rng.normal()
        )
    ]


def the_task(folder: Path, rows: list[dict[str, Any]]) -> Task:
    (task,) = read_tasks(written(folder, rows))
    return task


# Reading


def test_a_run_holds_its_last_value_to_the_planned_end_and_nothing_counts_beyond_it() -> None:
    early = resampled(np.array([300, 1, 100]), np.array([3.0, 1.0, 2.0]), 1000)
    assert list(early[:6]) == [1, 2, 2, 2, 2, 3] and set(early[6:]) == {3}
    assert resampled(np.array([900, 1001]), np.array([1.0, 9.0]), 1000)[-1] == 1


def test_a_run_is_nan_from_its_first_value_that_is_not_finite() -> None:
    curve = resampled(np.array([1, 500, 600]), np.array([1.0, np.inf, 2.0]), 1000)
    assert np.isfinite(curve[: REPORTS // 2 - 1]).all() and np.isnan(curve[REPORTS // 2 - 1 :]).all()


def test_lower_is_better_turns_the_sign_and_the_truth_is_of_the_best_config(tmp_path: Path) -> None:
    task = the_task(tmp_path, tuned_rows(noise=0))
    assert task.curves.shape == (ARMS, POINTS, SEEDS, REPORTS) and task.known.all() and task.tuned
    assert true_means(task) == pytest.approx([-4, -3, -2, -1, -2], abs=1e-6)
    assert list(near_best(task)) == [False, False, False, True, False]


def test_a_diverged_run_counts_as_the_worst_and_a_missing_one_does_not_count(tmp_path: Path) -> None:
    rows = [row for row in tuned_rows(noise=0) if (row["arm"], row["config"]) == ("arm 3", "point 1")]
    rest = [row for row in tuned_rows(noise=0) if (row["arm"], row["config"]) != ("arm 3", "point 1")]
    broken = [
        {**row, "value": np.nan} if row["seed"] == 0 and row["step"] > 500 else row
        for row in rows
        if row["seed"] != 1
    ]
    task = the_task(tmp_path, [*rest, *broken])
    assert np.count_nonzero(~task.known) == 1
    assert task.finals[3, 1] == pytest.approx([-8, -1, -1, -1, np.nan], nan_ok=True)
    assert true_means(task)[3] == pytest.approx(-11 / 4)


def test_versions_of_an_arm_that_is_not_tuned_are_arms_and_few_runs_are_left_out(tmp_path: Path) -> None:
    rows = [row for arm in range(5) for s in range(4) for row in rows_of("one", arm, 0, s, arm)]
    rows += [row for s in range(4) for row in rows_of("one", 4, 1, s, 9)]  # a second version
    rows += [row for s in range(3) for row in rows_of("one", 5, 0, s, 9)]
    task = the_task(tmp_path, rows)
    assert not task.tuned and len(task.arms) == 7
    (played,) = playable([task])
    assert [arm for arm in task.arms if arm not in played.arms] == ["arm 5"]
    assert not playable([Task("", "", task.arms, task.curves, task.known, reached=0, outrun=0.5)])


def test_each_planned_length_is_a_world_of_its_own(tmp_path: Path) -> None:
    rows = [row for s in range(4) for row in rows_of("one", 0, 0, s, 1)]
    rows += [row for s in range(4) for row in rows_of("one", 1, 0, s, 1, steps=2 * STEPS)]
    assert [task.name for task in read_tasks(written(tmp_path, rows))] == ["one 1000", "one 2000"]


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \.parquet file"):
        read_tasks(tmp_path)
    pd.DataFrame(columns=[name for name in COLUMNS if name != "steps"]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: lacks the column steps"):
        read_tasks(tmp_path)


# Playing


def test_every_policy_finds_the_arm_that_leads_all_along(tmp_path: Path) -> None:
    rows = list(sweeps_of(the_task(tmp_path, tuned_rows()), 2, 0))
    found = {row["policy"]: row for row in rows}
    complete = {name: row for name, row in found.items() if not name.endswith("draws")}
    assert len(complete) == 13 and all(row["right"] == 1 and row["regret"] == 0 for row in complete.values())
    assert found[FULL]["samples"] == 1 and all(found[name]["samples"] < 1 for name in set(found) - {FULL})
    assert found["asha arm 10%"]["samples"] < found["asha arm 30%"]["samples"]


def test_the_full_plan_is_right_where_early_values_mislead_and_an_early_look_is_not(tmp_path: Path) -> None:
    rows = tuned_rows()
    for row in rows:
        if row["arm"] == "arm 3" and row["step"] < 0.6 * STEPS:
            row["value"] = -row["value"]  # its points: who is good early is bad later
    found = {row["policy"]: row for row in sweeps_of(the_task(tmp_path, rows), 2, 0)}
    assert found[FULL]["right"] == 1
    assert found["fixed arm 10%"]["right"] == 0 and found["fixed arm 10%"]["regret"] > 0


def test_arms_without_tuning_are_judged_by_the_sweep(tmp_path: Path) -> None:
    rows = [row for arm in range(6) for s in range(6) for row in rows_of("one", arm, 0, s, 1 + abs(arm - 2))]
    task = the_task(tmp_path, rows)
    found = {row["policy"]: row for row in sweeps_of(task, 2, 0)}
    assert {name for name in found if " arm " in name} == set() and len(found) == 7
    assert all(row["right"] == 1 for row in found.values()) and found["asha sweep 10%"]["samples"] < 1
    order, truth = shuffled(task, np.random.default_rng(0))
    full = play(make_plans(task)[FULL], truth, 8)
    assert full.samples == 6 * EVIDENCE and order[full.named] == 2


def test_four_of_five_draws_are_also_stopped_as_the_shipped_spaces_do() -> None:
    shape = (2, 5, EVIDENCE + 1)
    curves = np.random.default_rng(0).random((*shape, REPORTS))
    task = Task("", "", ("a", "b"), curves, np.ones(shape, dtype=bool), reached=0, outrun=0)
    plans = make_plans(task)
    few = [name for name in plans if name.startswith("4 draws, ")]
    assert [plans[name].spec.scheduler.kind for name in few] == ["asha", "asha", "median"]
    assert {len(plans[name].known_draws) for name in few} == {4} and len(plans[FULL].known_draws) == 5


def test_runs_keep_to_their_arm_and_draws_when_they_are_shuffled(tmp_path: Path) -> None:
    task = the_task(tmp_path, tuned_rows())
    order, truth = shuffled(task, np.random.default_rng(1))
    assert sorted(order) == list(range(ARMS)) and truth.curves.shape == (ARMS, POINTS, SEEDS, REPORTS)
    for place, arm in enumerate(order):
        ours = sorted(sorted(draw) for draw in truth.curves[place, ..., -1].tolist())
        assert ours == sorted(sorted(draw) for draw in task.curves[arm, ..., -1].tolist())


def test_the_same_seed_gives_the_same_rows_and_another_does_not(tmp_path: Path) -> None:
    task = the_task(tmp_path, tuned_rows(noise=2.0))
    once, again, other = (list(sweeps_of(task, 2, seed)) for seed in (5, 5, 6))
    assert once == again
    assert once != other


# Reruns


def test_each_test_keeps_to_alpha_among_reruns_and_a_new_rule_is_a_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=40) for _ in range(12)]
    rules = {**RULES, "always": lambda values: np.full(values.shape[1] - 1, True)}
    rows = list(false_claims(groups, 10, 0, rules))
    sizes = {(row["seeds"], row["arms"]) for row in rows}
    assert sizes == {*itertools.product((4, 5, 8), (2, 4, 10))} - {(5, 10), (8, 10)}
    for row in rows:
        rate, error = np.mean(row["rates"]), np.std(row["rates"]) / np.sqrt(12)
        assert len(row["rates"]) == 12
        assert rate == 1 if row["rule"] == "always" else rate <= ALPHA + 3 * error + 1e-9


def test_a_real_difference_is_claimed() -> None:
    values = np.random.default_rng(0).normal(size=(8, 3))
    values[:, 2] += 10
    assert all(list(rule(values)) == [False, True] for rule in RULES.values())


def test_reruns_are_all_runs_of_a_config_but_diverged_ones(tmp_path: Path) -> None:
    rows = [row for arm in range(3) for s in range(8 + arm) for row in rows_of("one", arm, 0, s, s)]
    rows[-1]["value"] = np.nan
    groups = groups_of([the_task(tmp_path, rows)])
    assert [sorted(group) for group in groups] == [[float(-s) for s in reversed(range(n))] for n in (8, 9)]


# The command


def test_the_command_writes_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [{**row, "task": "reached"} for row in tuned_rows()]
    rows = [row for s in range(8) for row in rows_of("one", 0, 0, s, float(s), dataset="nanogpt")]
    folder = written(tmp_path, [*tuned_rows(), *other, *rows], {"tuned": [False], "reached": [True, False]})
    out = tmp_path / "curves.json"
    argv = ["decisions", "--curves", str(folder), "--replicates", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    decisions.main()
    content = json.loads(out.read_text(), parse_constant=pytest.fail)  # no NaN
    groups = ["made up, tuned", "made up, tuned, over 40% at their target"]
    assert sorted(task["group"] for task in content["tasks"]) == groups
    assert "MIT" in content["sources"]["nanogpt"]
    assert [(row["seeds"], row["arms"]) for row in content["reruns"]] == [(4, 2)] * len(RULES)
    full = next(row for row in content["summary"] if row["policy"] == FULL)
    assert full["right"] == 1 and full["right_gap"] == 0 and full["right_se"] is None
    printed = capsys.readouterr().out
    assert f"{groups[0]}: 1 tasks" in printed and "| 4 | 2 | 1 |" in printed


def test_errors_are_over_tasks() -> None:
    rows = [
        {"group": "g", "task": task, "policy": policy, "right": right, "near": 1, "regret": 0, "samples": 1}
        for task, shares in {"a": (1.0, 0.8), "b": (0.6, 0.2)}.items()
        for policy, right in zip((FULL, "asha"), shares, strict=True)
    ]
    full, asha = curve_tables.summarise(rows)
    assert (full["right"], full["right_se"], asha["right_gap"]) == (0.8, 0.2, -0.3)
    assert asha["right_gap_se"] == pytest.approx(0.1) and asha["tasks"] == 2


def test_the_recorded_curves_can_be_read_and_played(shared: Path) -> None:
    folder = shared / "data/curves"
    if not folder.exists():
        pytest.skip("needs the recorded learning curves in shared/data/curves, which are not there")
    tasks = read_tasks(folder)
    played = {task.name: task for task in playable(tasks)}
    least_cut = played["external/imagenet_resnet"]
    assert least_cut.known.shape == (11, 5, 5) and least_cut.reached == pytest.approx(0.036, abs=0.001)
    assert true_means(least_cut).max() == pytest.approx(0.776, abs=0.001)
    spent = {row["policy"]: row["samples"] for row in sweeps_of(least_cut, 1, 0)}
    assert spent["asha arm 10%"] < spent["asha arm 30%"] < spent[FULL] == 1
    assert max(map(len, groups_of(tasks))) == 75
