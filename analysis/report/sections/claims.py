"""What was asked, where that is not of the arms' means: effects and interactions, or spreads over seeds."""

from __future__ import annotations

import math

import pandas as pd

from analysis.compare.claims import rule_of
from analysis.format import p_text
from analysis.inference.decision import EQUIVALENT, Comparison
from analysis.report import page, sentences
from analysis.report.cells import interval_cell
from analysis.report.sections.base import Results, Section
from analysis.report.verdicts import answered

_ASKED = {
    "effects": "Each level of a factor against its reference, the levels of the other factors alike; and "
    "what two levels do together beyond what each does alone (an interaction).",
    "spread": "The standard deviation of each arm over seeds against the baseline's, by the distances from "
    "the arm's median (Brown and Forsythe 1974): less is better.",
}


def _show(results: Results) -> list[page.Part]:
    sweep = results.sweep
    rule, unit, found = rule_of(sweep), sweep.unit(sweep.shown_metric), answered(sweep).recorded
    if not found:
        return []
    note = (
        f"{_ASKED[rule.question]} p is {sentences.adjustment(sweep)}; the interval is at the level of all of "
        "them together."
    )
    if rule.question == "effects" and all(map(math.isfinite, unit.limits)):
        units = unit.difference or "the metric's own units"
        note += (
            f" Effects add up in {units} here: near a bound of the metric an interaction may be the bound's."
        )
    heads = [rule.question.rstrip("s"), "against", f"difference{unit.difference_suffix}"]
    rows = [
        [
            page.Cell(row.arm),
            page.Cell(row.against),
            interval_cell(pd.Series({"diff": row.diff, "low": row.low, "high": row.high}), "diff", unit),
            page.Cell(_p(row)),
            page.Cell(row.verdict, row.note),
        ]
        for row in found
    ]
    return [page.Paragraph(note, "note"), page.Table([*heads, "p (adjusted)", "verdict"], rows, 2, wrap=1)]


def _p(row: Comparison) -> str:
    return p_text(row.p_equivalent_adjusted if row.verdict == EQUIVALENT else row.p_adjusted)


SECTION = Section(
    "What was asked",
    _show,
    lambda results: not results.sweep.is_exploratory and not rule_of(results.sweep).is_of_arms,
)
