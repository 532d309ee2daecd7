"""The tables of coverage: what they find in small, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.inference.decision import adjusted
from analysis.inference.significance import holm
from benchmarks import coverage, fixed_tests
from benchmarks.coverage_tables import TABLES
from benchmarks.designs import Design
from benchmarks.worlds import World


def test_adjusted_takes_many_families_at_once() -> None:
    rng = np.random.default_rng(0)
    p, others = rng.random((20, 4)) ** 3, rng.random((20, 4))
    others = np.maximum(p, others)
    p[0, 1] = np.nan
    for ours, theirs in ((p, p), (p, others)):
        assert (adjusted(ours, theirs) == [adjusted(*row) for row in zip(ours, theirs, strict=True)]).all()
    assert adjusted(p[1:], p[1:]) == pytest.approx(np.array([holm(row) for row in p[1:]]))


def test_t_covers_normal_differences_and_collapsing_ones_it_does_not() -> None:
    rows = {
        kind: fixed_tests.coverage(kind, "shared", 5, 80, np.random.default_rng(1))
        for kind in ("normal", "collapsing")
    }
    assert rows["normal"]["of"] == 400 and rows["normal"]["interval"] == "t"
    assert 0.92 <= rows["normal"]["paired"] <= 0.98
    assert rows["collapsing"]["paired"] < 0.85


def test_bca_covers_normal_means_from_twenty_on() -> None:
    row = fixed_tests.coverage("normal", "shared", 20, 40, np.random.default_rng(2))
    assert row["interval"] == "BCa" and 0.85 <= row["mean"] <= 0.99


def test_a_null_family_seldom_claims_and_a_large_effect_is_found() -> None:
    found = list(fixed_tests.false_claims("normal", 8, 60, np.random.default_rng(3)))
    assert len(found) == 4 and all(row["false"] <= 0.15 for row in found)
    by_rule = {
        (row["test"], row["pairing"]): row
        for row in fixed_tests.power(0.0, 5, 3, 25, np.random.default_rng(4))
    }
    assert by_rule["permutation", "paired"]["holm"] == 0  # five seeds cannot, however large the effect
    assert by_rule["permutation", "unpaired"]["holm"] > 0.8 and by_rule["t", "paired"]["alone"] > 0.9
    assert by_rule["t", "paired"]["alone_gap"] == 0


def test_a_cell_with_too_many_false_claims_is_drawn_again_with_more_sweeps(monkeypatch) -> None:
    world, design = World("all alike", (1.0,) * 4), Design("paired")
    once = coverage.false_claims(world, design, 300, [0])
    assert once["of"] == 300 and 0 < once["false_in_plan"] <= once["false"] <= 0.08
    monkeypatch.setattr(coverage, "TOO_HIGH", 0.0)
    assert coverage.false_claims(world, design, 300, [0])["of"] == 300 * coverage.AGAIN


def test_the_best_mean_is_flattered_and_its_correction_is_not() -> None:
    for row in coverage.best_mean_rows(600, 6):
        assert row["naive"] > 0.25
        assert abs(row["corrected"]) < 0.1 + 2 * row["error"]


def test_intervals_of_looks_hold_the_truth() -> None:
    rows = list(coverage.interval_rows(40, 7))
    assert len(rows) == 8
    assert all(row["each"] > 0.95 and row["all"] > 0.85 for row in rows)


def test_the_command_prints_every_table_and_writes_it(tmp_path: Path, monkeypatch, capsys) -> None:
    for module, name, small in (
        (coverage, "ARMS", (4,)), (coverage, "LOOKS", ((), (3, 4))),
        (fixed_tests, "COVERAGE_N", (5,)), (fixed_tests, "FALSE_N", (5,)),
        (fixed_tests, "POWER_AT", ((0.0, 5),)), (fixed_tests, "EFFECTS", (3,)),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, small)
    out = tmp_path / "coverage.json"
    monkeypatch.setattr(sys, "argv", ["coverage", "--sweeps", "8", "--out", str(out)])
    coverage.main()
    first, shown = out.read_text(), capsys.readouterr().out
    found = json.loads(first)
    assert set(found) == {*TABLES, "sweeps", "seed"}
    assert all(f"### {name}\n" in shown for name in TABLES) and "n too small: 8" in shown
    assert (len(found["coverage"]), len(found["fixed_false"]), len(found["fixed_power"])) == (6, 8, 4)
    coverage.main()
    assert out.read_text() == first


def test_no_sweeps_are_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["coverage", "--sweeps", "0"])
    with pytest.raises(SystemExit) as stopped:
        coverage.main()
    assert stopped.value.code == 2 and "--sweeps is 0" in capsys.readouterr().err
