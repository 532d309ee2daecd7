"""The ranked table, its figure, and both tests behind it."""

from __future__ import annotations

import math

import pandas as pd

from analysis.compare.claims import rule_of
from analysis.compare.pairing import correlation_text, correlations, pairing_text
from analysis.figures.style import looks
from analysis.format import Unit, p_text
from analysis.inference.rule import Rule
from analysis.report import page, table
from analysis.report.cells import interval_cell
from analysis.report.sections.base import Results, Section
from analysis.report.sentences import by_all_pairs
from analysis.sweep import Sweep

TITLE = "Ranking"
COVERED = (
    "An interval over seeds covers what a trial draws from its seed: initial weights, order of data and "
    "halting. It does not cover the data and the test rows, which all seeds share."
)


def _show(results: Results) -> list[page.Part]:
    sweep, ranked = results.sweep, results.ranked
    return [
        *_table(sweep, ranked),
        *results.figures(TITLE),
        page.Paragraph(by_all_pairs(sweep)),
        page.Paragraph(f"{table.how_to_read(sweep)} Wall time is a trial's, on average. {COVERED}", "note"),
        page.Paragraph(table.how_decided(sweep), "note"),
        *both_tests(sweep, ranked),
    ]


def _table(sweep: Sweep, ranked: pd.DataFrame) -> list[page.Part]:
    columns, how = table.columns(sweep), looks(sweep)
    rows = [
        [
            page.Cell(table.marked(sweep, row["arm"]), table.outcome(row), how[row["arm"]]),
            *(page.Cell(column.text(row), column.below(row), note=column.note(row)) for column in columns),
        ]
        for _, row in ranked.iterrows()
    ]
    return [
        page.Table(["arm", *(column.head for column in columns)], rows),
        page.Paragraph(table.unmatched_text(sweep), "note"),
    ]


def both_tests(sweep: Sweep, ranked: pd.DataFrame) -> list[page.Part]:
    """Every arm's p by each test, unadjusted, what its seeds share with the baseline's, and the difference
    that does not decide: unpaired beside paired. None where nothing is claimed of the arms' means."""
    if sweep.is_exploratory or not rule_of(sweep).is_of_arms or len(ranked) < 2:
        return []
    prefix, metric = "test_" if sweep.test_metric else "", sweep.shown_metric
    rule, unit = rule_of(sweep), sweep.unit(metric)
    shown = {
        "sign-flip (paired)": "paired_permutation_p", "t (paired)": "paired_t_p",
        "two-sample permutation": "unpaired_permutation_p", "Welch's t": "unpaired_t_p",
        **({"equivalence (Shaffer)": "p_equivalent_adjusted"} if rule.margin else {}),
    }  # fmt: skip
    other = "unpaired" if rule.pairing == "paired" else "paired"
    shared = correlations(sweep, metric).set_index("arm")
    rows = []
    for _, row in ranked[ranked["arm"] != sweep.baseline].iterrows():
        low, high = row[f"{prefix}equivalent_low"], row[f"{prefix}equivalent_high"]
        within = unit.ends(low, high, sign=True) if pd.notna(low) else ""
        cells = [
            page.Cell(p_text(row[prefix + key]), within if key == "p_equivalent_adjusted" else "")
            for key in shown.values()
        ]
        cells = [page.Cell(row["arm"]), *cells]
        cells.append(_correlation(shared.loc[row["arm"]]) if row["arm"] in shared.index else page.Cell("–"))
        ends = {"diff": row[f"{prefix}{other}_diff"]} | {
            end: row[f"{prefix}{other}_{end}"] for end in ("low", "high")
        }
        rows.append([*cells, interval_cell(pd.Series(ends), "diff", unit)])
    suffix = unit.difference_suffix
    heads = ["arm", *shown, "correlation over seeds", f"{other} difference{suffix}"]
    note = (
        f"p of each test against {sweep.baseline}, not adjusted; the {rule.name} decides (`evidence` in the "
        f"search space). {_margin(rule, unit)} {pairing_text(sweep, metric)}"
    )
    inner: list[page.Part] = [page.Paragraph(note.rstrip(), "note"), page.Table(heads, rows)]
    return [page.Details("Both tests, paired and unpaired", inner)]


def _margin(rule: Rule, unit: Unit) -> str:
    if not rule.margin:
        return "Equivalence is not tested, as `evidence` names no margin."
    within = f"within ±{unit.text(rule.margin)} {unit.difference}".rstrip()
    return (
        f"Equivalence: two one-sided t-tests, {within}; below their p the interval that they invert, which "
        "always holds 0, at the level of all comparisons together."
    )


def _correlation(row: pd.Series) -> page.Cell:
    low, high = (correlation_text(row[end]) for end in ("low", "high"))
    return page.Cell(
        correlation_text(row["correlation"]), f"[{low}, {high}]" if math.isfinite(row["low"]) else ""
    )


SECTION = Section(TITLE, _show)
