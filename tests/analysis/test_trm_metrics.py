"""The tables beyond one number, from made-up sweeps whose figures are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.inference.intervals import mean_interval, t_interval
from analysis.sweep import Sweep, load_sweep
from analysis.trm_metrics import by_rating, depth_curve, halting
from tests.analysis.synthetic import RECORDED, Fake, write_sweep

SEEDS = (1, 2, 3, 4, 5)


def figure(arm: str, seed: int, name: str) -> float:
    """What the made-up trial read: another number for each arm, seed and figure."""
    return {"base": 0.2, "other": 0.6}[arm] + 0.01 * seed + 0.001 * (sum(name.encode()) % 50)


def with_figures(sweep: Sweep, *names: str) -> Sweep:
    done = sweep.trials["status"] == "completed"
    columns = {
        name: [
            figure(arm, seed, name) if ended else np.nan
            for arm, seed, ended in zip(sweep.trials["arm"], sweep.trials["seed"], done, strict=True)
        ]
        for name in names
    }
    return replace(sweep, trials=sweep.trials.assign(**columns))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    arms = {"base": Fake(0.7), "other": Fake(0.9, statuses={5: "diverged"})}
    return load_sweep(write_sweep(tmp_path / "s", arms, seeds=SEEDS, phase="evidence"))


def test_depth_curve(sweep: Sweep) -> None:
    names = {t: f"test/exact_accuracy_at_{t}" for t in (128, 1, 2, 16)}
    table = depth_curve(with_figures(sweep, *names.values(), "test/exact_accuracy"))
    assert list(table) == ["arm", "supervision_steps", "n", "mean", "low", "high", "values"]
    assert [*zip(table["arm"], table["supervision_steps"], strict=True)] == [
        (arm, t) for arm in ("base", "other") for t in (1, 2, 16, 128)
    ]
    for row in table.itertuples():
        seeds = SEEDS if row.arm == "base" else SEEDS[:4]  # the diverged one has no reading
        expected = t_interval([figure(row.arm, seed, names[row.supervision_steps]) for seed in seeds])
        assert (row.n, row.mean, row.low, row.high) == pytest.approx(
            (expected.n, expected.mean, expected.low, expected.high)
        )


def test_arms_may_have_been_read_at_different_steps(sweep: Sweep) -> None:
    given = with_figures(sweep, "test/exact_accuracy_at_4", "test/exact_accuracy_at_6")
    given.trials.loc[given.trials["arm"] == "base", "test/exact_accuracy_at_6"] = np.nan
    table = depth_curve(given)
    assert [*zip(table["arm"], table["supervision_steps"], strict=True)] == [
        ("base", 4), ("other", 4), ("other", 6),
    ]  # fmt: skip


def test_by_rating(sweep: Sweep) -> None:
    buckets = ("100_up", "10_99", "0", "1_9", "2_up_not_one")
    given = with_figures(sweep, *(f"test/exact_accuracy_rating_{bucket}" for bucket in buckets))
    rows = {"test/rows_rating_0": 7.0, "test/rows_rating_1_9": 30.0, "test/rows_rating_10_99": 60.0,
            "test/rows_rating_100_up": 3.0}  # fmt: skip
    table = by_rating(replace(given, trials=given.trials.assign(**rows)))
    assert list(table) == ["arm", "rating", "rows", "n", "mean", "low", "high", "values"]
    base = table[table["arm"] == "base"]
    assert list(base["rating"]) == ["0", "1–9", "10–99", "100+"]
    assert list(base["rows"]) == [7, 30, 60, 3]
    expected = [figure("base", seed, "test/exact_accuracy_rating_100_up") for seed in SEEDS]
    assert base["mean"].iloc[-1] == pytest.approx(np.mean(expected))


def test_halting(sweep: Sweep) -> None:
    names = ("test/q_ece", "test/q_auroc", "test/solved_then_lost", "test/solved_then_lost_at_128")
    given = with_figures(sweep, *names)
    given.trials.loc[given.trials["arm"] == "other", "test/q_auroc"] = np.nan  # every row solved
    table = halting(given).set_index("arm")
    assert list(table.index) == ["base", "other"]
    for name in names:
        short, expected = name.removeprefix("test/"), t_interval([figure("base", s, name) for s in SEEDS])
        found = table.loc["base", [short, f"{short}_low", f"{short}_high", f"{short}_n"]].tolist()
        assert found == pytest.approx([expected.mean, expected.low, expected.high, expected.n])
    assert np.isnan(table.loc["other", "q_auroc"])
    assert table.loc["other", "q_ece_n"] == 4


@pytest.mark.parametrize(
    ("spread", "says"), [([0.0, 0.0, 0.0, 0.0, 1.0], True), ([0.0, 0.0, 0.0, 1.0, 1.0], False)]
)
def test_intervals_stay_between_0_and_1(sweep: Sweep, spread: list[float], says: bool) -> None:
    values = [spread[seed - 1] for seed in sweep.trials["seed"]]
    table = depth_curve(replace(sweep, trials=sweep.trials.assign(**{"test/exact_accuracy_at_1": values})))
    low, high = table["low"].iloc[0], table["high"].iloc[0]
    assert (low == 0.0 and 0.5 < high < 1.0) if says else (math.isnan(low) and math.isnan(high))


def test_from_twenty_seeds_on_intervals_are_the_rankings(tmp_path: Path) -> None:
    seeds, name = range(1, 25), "test/exact_accuracy_at_1"
    many = load_sweep(write_sweep(tmp_path / "s", {"base": Fake(0.7)}, seeds=tuple(seeds), phase="evidence"))
    (row,) = depth_curve(with_figures(many, name)).itertuples()
    expected = mean_interval([figure("base", seed, name) for seed in seeds])
    assert expected.method == "BCa" and (row.low, row.high) == pytest.approx((expected.low, expected.high))


def test_below_four_seeds_the_values_stand_for_the_interval(tmp_path: Path) -> None:
    three = load_sweep(write_sweep(tmp_path / "s", {"base": Fake(0.7)}, seeds=(1, 2, 3), phase="evidence"))
    name, rows = "test/exact_accuracy_at_1", "test/solved_then_lost"
    (row,) = depth_curve(with_figures(three, name)).to_dict("records")
    values = tuple(figure("base", seed, name) for seed in (1, 2, 3))
    assert np.isnan([row["low"], row["high"]]).all() and row["values"] == pytest.approx(values)
    (row,) = halting(with_figures(three, rows)).to_dict("records")
    assert np.isnan(row["solved_then_lost_low"]) and len(row["solved_then_lost_values"]) == 3


def test_a_sweep_of_one_seed_has_means_without_intervals(tmp_path: Path) -> None:
    one = load_sweep(write_sweep(tmp_path / "s", {"base": Fake(0.7)}, seeds=(1,), phase="evidence"))
    table = depth_curve(with_figures(one, "test/exact_accuracy_at_1"))
    assert table["n"].tolist() == [1] and table["low"].isna().all()


def test_a_sweep_that_read_nothing_of_it_gives_empty_tables() -> None:
    recorded = load_sweep(RECORDED)
    kept = recorded.trials.drop(columns=[name for name in recorded.trials if "_at_" in name])
    plain = replace(recorded, trials=kept.filter(regex="^(?!test/(q_|solved|exact_accuracy_rating|rows))"))
    for table in (depth_curve(plain), by_rating(plain), halting(plain)):
        assert table.empty and "arm" in table
