"""Effects of levels and cells of two factors, from seed tables whose differences are known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.contrasts import cells, crossed, effects
from analysis.load import Sweep, load_sweep
from analysis.stats import seed_table, t_interval
from tests.analysis.synthetic import Fake, write_sweep

SEEDS = (1, 2, 3)


def _sweep(folder: Path, arms: dict[str, dict[str, object]]) -> Sweep:
    fakes = {arm: Fake(0.3 + 0.05 * i, levels=levels) for i, (arm, levels) in enumerate(arms.items())}
    return load_sweep(write_sweep(folder / "s", fakes, seeds=SEEDS, phase="evidence"))


def _grid() -> dict[str, dict[str, object]]:
    return {
        f"{kind}{n}": {"kind": kind, "layers": n, "bias": "on"}
        for kind in ("a", "b", "c")
        for n in (8, 16, 4)
    }


def test_an_effect_is_the_mean_difference_of_arms_that_agree_in_all_else(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path, _grid())
    table = seed_table(sweep, "test/exact_accuracy")
    found = effects(sweep).set_index(["factor", "level"])
    assert list(found.index) == [("kind", "b"), ("kind", "c"), ("layers", "16"), ("layers", "4")]
    by_hand = sum(table[f"b{n}"] - table[f"a{n}"] for n in (8, 16, 4)) / 3
    gap, row = t_interval(by_hand), found.loc[("kind", "b")]
    assert (row["n"], row["mean"], row["low"]) == (3, pytest.approx(gap.mean), pytest.approx(gap.low))
    assert row["reference"] == "a" and found.loc[("layers", "4"), "reference"] == "8"


def test_one_at_a_time_compares_with_the_baseline_alone(tmp_path: Path) -> None:
    base = {"kind": "a", "layers": 2}
    sweep = _sweep(tmp_path, {"base": base, "b": base | {"kind": "b"}, "deep": base | {"layers": 4}})
    table = seed_table(sweep, "test/exact_accuracy")
    means = effects(sweep).set_index("level")["mean"]
    assert means["b"] == pytest.approx((table["b"] - table["base"]).mean())
    assert means["4"] == pytest.approx((table["deep"] - table["base"]).mean())
    assert crossed(sweep) == []


def test_a_factor_that_not_every_arm_has_is_no_hindrance(tmp_path: Path) -> None:
    arms = {"x16": {"kind": "x", "state": 16}, "x64": {"kind": "x", "state": 64}, "none": {"kind": "none"}}
    sweep = _sweep(tmp_path, arms)
    table = seed_table(sweep, "test/exact_accuracy")
    row = effects(sweep).set_index("level").loc["none"]
    assert row["mean"] == pytest.approx((table["none"] - (table["x16"] + table["x64"]) / 2).mean())
    assert crossed(sweep) == []


def test_a_seed_counts_where_every_arm_of_the_pair_has_it(tmp_path: Path) -> None:
    fakes = {"a": Fake(0.5), "b": Fake(0.6, statuses={2: "failed"}), "c": Fake(0.6, stop=0.25)}
    sweep = load_sweep(write_sweep(tmp_path / "s", fakes, seeds=SEEDS, phase="evidence"))
    found = effects(sweep)
    assert list(found["level"]) == ["b"] and list(found["n"]) == [2]


def test_cells_are_means_over_the_other_factors_with_numbers_in_order(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path, _grid())
    assert crossed(sweep) == [("layers", "kind")]
    found = cells(sweep, "layers", "kind")
    assert list(found["level_a"].unique()) == ["4", "8", "16"]
    table = seed_table(sweep, "test/exact_accuracy")
    expected = [table[f"{row.level_b}{row.level_a}"].mean() for row in found.itertuples()]
    assert found["mean"].to_list() == pytest.approx(expected)


def test_without_levels_there_are_no_effects(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path, _grid())
    bare = Sweep(sweep.trials, sweep.history, sweep.decisions, {"objective": sweep.space["objective"]})
    assert isinstance(effects(bare), pd.DataFrame) and effects(bare).empty
