"""The tables say what the functions behind them give."""

from __future__ import annotations

from analysis.explain.ablation_path import ablation_path
from analysis.explain.importance import importances
from analysis.explain.interactions import interaction_estimates, interactions
from analysis.format import p_text
from analysis.report.sections.factors import factors
from analysis.sweep import Sweep
from tests.analysis.report.sections.cells import cells


def test_factors_are_weighed_crossed_and_walked(grid: Sweep) -> None:
    rows = {row[0]: row for row in cells(factors(grid))}
    crossing = interactions(grid).iloc[0]
    assert rows[f"kind × n{crossing['note']}"][2] == p_text(crossing["p"])
    (size,) = interaction_estimates(grid, "kind", "n").to_dict("records")
    assert rows["b × 4"][1].startswith(f"{100 * size['estimate']:+.1f}[".replace("-", "−"))
    shares = importances(grid).set_index("name")["share"]
    assert rows["kind"][3].startswith(f"{100 * shares['kind']:.0f}[")
    steps = ablation_path(grid).set_index("flipped")
    assert rows["kind: a to b"][1] == f"{100 * steps.loc['kind: a to b', 'mean']:.1f}"
    assert rows["n: 2 to 4"][3] == f"{100 * steps.loc['n: 2 to 4', 'share']:.0f}"
