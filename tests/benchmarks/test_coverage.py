"""The simulation of intervals and claims asks the report's own comparison; what it finds in small."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compare.comparisons import Rule, comparisons
from benchmarks import coverage


@pytest.mark.parametrize("rule", coverage.RULES)
def test_claims_are_the_verdicts(rule: tuple) -> None:
    """Holm over the printed p is what the verdict says, under each of the four rules."""
    rng = np.random.default_rng(0)
    for effect in (0.0, 1.5, 3.0):
        values = rng.normal(size=(8, coverage.FAMILY + 1))
        values[:, 1:4] += effect
        table = coverage.compared(values)
        wanted = comparisons(pd.DataFrame(values, columns=list(table.index)), "arm0", Rule(*rule))
        decisions = wanted["verdict"].isin(["better", "worse"]).to_numpy()[1:]
        assert list(coverage.claimed(table, *rule)) == list(decisions)
        assert list(table["paired_t_p"][1:]) == list(wanted["paired_t_p"][1:])


def test_t_covers_normal_differences_and_collapsing_ones_it_does_not() -> None:
    rows = {
        kind: coverage.coverage(kind, "shared", 5, 80, np.random.default_rng(1))
        for kind in ("normal", "collapsing")
    }
    assert rows["normal"]["of"] == 400 and rows["normal"]["interval"] == "t"
    assert 0.92 <= rows["normal"]["paired"] <= 0.98
    assert rows["collapsing"]["paired"] < 0.85


def test_bca_covers_normal_differences_from_twenty_on() -> None:
    row = coverage.coverage("normal", "shared", 20, 40, np.random.default_rng(2))
    assert row["interval"] == "BCa" and 0.9 <= row["paired"] <= 0.99


def test_a_null_sweep_seldom_claims_and_a_large_effect_is_found() -> None:
    found = list(coverage.false_claims("normal", 8, 60, np.random.default_rng(3)))
    assert len(found) == 4 and all(row["false"] <= 0.15 for row in found)
    by_rule = {
        (row["test"], row["pairing"]): row for row in coverage.power(0.0, 5, 3, 25, np.random.default_rng(4))
    }
    assert by_rule["permutation", "paired"]["holm"] == 0  # five seeds cannot, however large the effect
    assert by_rule["permutation", "unpaired"]["holm"] > 0.8 and by_rule["t", "paired"]["alone"] > 0.9
    assert by_rule["t", "paired"]["alone_gap"] == 0


def test_the_command_prints_three_tables_and_writes_them(tmp_path: Path, monkeypatch, capsys) -> None:
    for name, small in (
        ("COVERAGE_N", (5,)), ("FALSE_N", (5,)), ("POWER_AT", ((0.0, 5),)), ("EFFECTS", (3,)),
    ):  # fmt: skip
        monkeypatch.setattr(coverage, name, small)
    out = tmp_path / "coverage.json"
    monkeypatch.setattr(sys, "argv", ["coverage", "--sweeps", "2", "--out", str(out)])
    coverage.main()
    first, shown = out.read_text(), capsys.readouterr().out
    found = json.loads(first)
    assert (len(found["coverage"]), len(found["false_claims"]), len(found["power"])) == (6, 8, 4)
    assert shown.count("|---") > 20 and "n too small: 8" in shown
    coverage.main()
    assert out.read_text() == first


def test_no_sweeps_are_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["coverage", "--sweeps", "0"])
    with pytest.raises(SystemExit) as stopped:
        coverage.main()
    assert stopped.value.code == 2 and "--sweeps is 0" in capsys.readouterr().err
