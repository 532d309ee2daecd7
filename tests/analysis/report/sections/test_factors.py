"""The tables say what the functions behind them give."""

from __future__ import annotations

from analysis.explain.ablation_path import ablation_path
from analysis.explain.importance import importances
from analysis.explain.interactions import interactions
from analysis.format import p_text
from analysis.report import page
from analysis.report.sections.factors import factors
from analysis.sweep import Sweep
from tests.analysis.report.sections.cells import cells


def test_factors_are_weighed_crossed_and_walked(grid: Sweep) -> None:
    html = page.html(factors(grid))
    rows = {row[0]: row for row in cells(html)}
    (crossing,) = interactions(grid).to_dict("records")
    crossed = rows["b × 4kind × n"]
    assert crossed[1].startswith(f"{100 * crossing['estimate']:+.1f}[".replace("-", "−"))
    assert crossed[2:] == ["5", p_text(crossing["p_holm"])]
    assert "depends on the scale" in html
    share, chance = importances(grid).set_index("name").loc["kind", ["share", "chance"]]
    assert rows["kind"][3] == f"{100 * share:.0f}by chance up to {100 * chance:.0f}"
    steps = ablation_path(grid).set_index("flipped")
    assert rows["kind: a to b"][1] == f"{100 * steps.loc['kind: a to b', 'mean']:.1f}"
    assert rows["n: 2 to 4"][3] == f"{100 * steps.loc['n: 2 to 4', 'share']:.0f}"
