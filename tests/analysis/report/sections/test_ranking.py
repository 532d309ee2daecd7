"""The tests behind the ranking."""

from __future__ import annotations

from analysis.compare.ranking import rank_arms
from analysis.format import p_text
from analysis.report.sections.ranking import both_tests
from analysis.sweep import Sweep
from tests.analysis.report.sections.cells import cells


def test_both_tests_are_printed_and_the_deciding_one_is_named(grid: Sweep) -> None:
    ranked = rank_arms(grid)
    html = both_tests(grid, ranked)
    rows = {row[0]: row for row in cells(html)}
    best = ranked.set_index("arm").loc["b4"]
    assert rows["b4"][1:3] == [p_text(best["test_paired_permutation_p"]), p_text(best["test_paired_t_p"])]
    ends = 100 * best["test_equivalent_low"], 100 * best["test_equivalent_high"]
    assert ends[0] == 0 and ends[1] > 100 * best["test_diff"]  # far from equivalent: 0 and beyond
    equivalent = p_text(best["test_p_equivalent_adjusted"])
    assert rows["b4"][5] == f"{equivalent}[{ends[0]:+.1f}, {ends[1]:+.1f}]"
    assert "the paired t-test decides" in html and "±2.0 points" in html and "a2" not in rows
