"""The tables behind the ranking say what the functions behind them give, where these give something."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from analysis.compare.ranking import rank_arms
from analysis.explain.ablation_path import ablation_path
from analysis.explain.importance import importances
from analysis.explain.interactions import interaction_estimates, interactions
from analysis.format import p_text
from analysis.report import evidence_tables as evidence
from analysis.stopping.common_samples import at_common_samples
from analysis.sweep import Sweep, load_sweep
from tests.analysis.synthetic import Fake, write_sweep


@pytest.fixture
def grid(tmp_path: Path) -> Sweep:
    finals = {("a", 2): 0.4, ("a", 4): 0.5, ("b", 2): 0.6, ("b", 4): 0.9}
    arms = {f"{kind}{n}": Fake(final, levels={"kind": kind, "n": n}) for (kind, n), final in finals.items()}
    space = {"evidence": {"margin": 0.02}}
    return load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3, 4, 5), phase="evidence", space=space))


def _cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [
        [unescape(re.sub("<.*?>", "", cell)) for cell in re.findall(r"<t[dh].*?</t[dh]>", row)]
        for row in rows
    ]


def test_both_tests_are_printed_and_the_deciding_one_is_named(grid: Sweep) -> None:
    ranked = rank_arms(grid)
    html = evidence.tests(grid, ranked)
    rows = {row[0]: row for row in _cells(html)}
    best = ranked.set_index("arm").loc["b4"]
    assert rows["b4"][1:3] == [p_text(best["test_paired_permutation_p"]), p_text(best["test_paired_t_p"])]
    assert rows["b4"][5] == p_text(best["test_p_equivalent_holm"])
    assert "the paired t-test decides" in html and "±2.0 points" in html and "a2" not in rows


def test_factors_are_weighed_crossed_and_walked(grid: Sweep) -> None:
    rows = {row[0]: row for row in _cells(evidence.factors(grid))}
    crossing = interactions(grid).iloc[0]
    assert rows[f"kind × n{crossing['note']}"][2] == p_text(crossing["p"])
    (size,) = interaction_estimates(grid, "kind", "n").to_dict("records")
    assert rows["b × 4"][1].startswith(f"{100 * size['estimate']:+.1f}[".replace("-", "−"))
    shares = importances(grid).set_index("name")["share"]
    assert rows["kind"][3].startswith(f"{100 * shares['kind']:.0f}[")
    steps = ablation_path(grid).set_index("flipped")
    assert rows["kind: a to b"][1] == f"{100 * steps.loc['kind: a to b', 'mean']:.1f}"
    assert rows["n: 2 to 4"][3] == f"{100 * steps.loc['n: 2 to 4', 'share']:.0f}"


def test_stopped_arms_are_compared_where_nobody_was_stopped_yet(tmp_path: Path) -> None:
    arms = {"base": Fake(0.7), "weak": Fake(0.4, stop=0.25)}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2)))
    html, found = evidence.common_samples(sweep), at_common_samples(sweep).set_index("arm")
    rows = {row[0]: row for row in _cells(html)}
    assert rows["weak"][1:3] == ["3", "3"] and rows["base"][2] == "0"
    assert (
        rows["weak"][3].startswith(f"{100 * found.loc['weak', 'mean']:.1f}[") and "after 100k samples" in html
    )
    assert evidence.tests(sweep, rank_arms(sweep)) == ""


def test_a_sweep_run_to_its_end_needs_no_common_samples(grid: Sweep) -> None:
    assert evidence.common_samples(grid) == ""
