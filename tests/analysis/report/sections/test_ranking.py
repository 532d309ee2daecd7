"""The tests behind the ranking."""

from __future__ import annotations

import math

from analysis.compare.ranking import rank_arms
from analysis.format import p_text
from analysis.report import page
from analysis.report.sections.ranking import both_tests
from analysis.sweep import Sweep
from tests.analysis.report.sections.cells import cells


def test_both_tests_are_printed_and_the_deciding_one_is_named(grid: Sweep) -> None:
    ranked = rank_arms(grid)
    html = page.html(both_tests(grid, ranked))
    rows = {row[0]: row for row in cells(html)}
    best = ranked.set_index("arm").loc["b4"]
    assert rows["b4"][1:3] == [p_text(best["test_paired_permutation_p"]), p_text(best["test_paired_t_p"])]
    assert math.isnan(best["test_equivalent_low"])  # far from equivalent: no interval shows it
    equivalent = p_text(best["test_p_equivalent_adjusted"])
    assert rows["b4"][5] == equivalent
    assert "the paired t-test decides" in html and "±2.0 points" in html and "a2" not in rows
