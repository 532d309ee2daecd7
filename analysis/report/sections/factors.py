"""What each factor does, how factors work together, and the way from the baseline to the best arm."""

from __future__ import annotations

import math

from analysis.compare.claims import rule_of
from analysis.explain.ablation_path import ablation_path
from analysis.explain.importance import importances
from analysis.explain.interactions import interactions
from analysis.format import AMOUNTS, Unit, name_of, p_text, si, title_of
from analysis.report import page
from analysis.report.cells import interval_cell
from analysis.report.sections.base import Results, Section
from analysis.sweep import Sweep

TITLE = "Factors"
SHARE = Unit(100.0, "%", "", 0)
_T_TEST = {
    "paired": "A t-test of the contrast at each shared seed.",
    "unpaired": "A t-test of four cells of unequal spread (Welch and Satterthwaite).",
}


def _show(results: Results) -> list[page.Part]:
    return [*results.figures(TITLE), *factors(results.sweep)]


def factors(sweep: Sweep) -> list[page.Part]:
    """What of the variance the factors account for, whether they interact, and the way to the best arm."""
    return [*_interactions(sweep), *_importances(sweep), *_path(sweep)]


def _interactions(sweep: Sweep) -> list[page.Part]:
    """Those that the sweep did not ask for; else sections/claims.py has them, adjusted with the effects."""
    found = interactions(sweep)
    if sweep.is_exploratory or found.empty or rule_of(sweep).question == "effects":
        return []
    unit = sweep.unit(sweep.shown_metric)
    suffix = unit.difference_suffix
    rows = [
        [
            page.Cell(f"{row['level_a']} × {row['level_b']}", f"{row['factor_a']} × {row['factor_b']}"),
            interval_cell(row, "estimate", unit),
            page.Cell(str(row["n"])),
            page.Cell(p_text(row["p_holm"]), row["note"]),
        ]
        for _, row in found.iterrows()
    ]
    note = (
        "Interactions: how much two levels do together beyond what each does alone, against the baseline's "
        f"levels. {_T_TEST[rule_of(sweep).pairing]} p is adjusted over all {len(rows)} of them (Holm); "
        "the 95% intervals are not."
    )
    if all(map(math.isfinite, unit.limits)):
        note += (
            " An interaction of a metric with bounds depends on the scale: here effects add up in "
            f"{unit.difference or 'its own units'}, and effects that add up in odds do not, near a bound."
        )
    heads = ["two levels together", f"beyond each alone{suffix}", "seeds", "p (Holm)"]
    return [page.Paragraph(note, "note"), page.Table(heads, rows)]


def _importances(sweep: Sweep) -> list[page.Part]:
    found = importances(sweep)
    if len(found) < 2:
        return []
    at, metric = found["at"].iloc[0], name_of(found["metric"].iloc[0])
    over = AMOUNTS[sweep.compared_over]
    when = f"after {si(at)} {over}, which all reached" if math.isfinite(at) else "at their end"
    unit = "draws of arms, each the mean over its seeds" if sweep.space.get("tune") else "trials"
    note = (
        f"Importance: share of the variance of ranks of {metric} that each explains alone (one-way epsilon "
        f"squared), {when}, over {unit}, that were not chosen on their result. A factor is judged among all "
        "arms; tuned values and the seed within each arm, pooled over the arms. Below a share: what shuffled "
        "ranks stay under in 95% of cases. Interactions are left out."
    )
    rows = [
        [
            page.Cell(row["name"], row["note"]),
            page.Cell(row["kind"]),
            page.Cell(str(row["n"]) if row["n"] else "–"),
            page.Cell(
                SHARE.text(row["share"]),
                f"by chance up to {SHARE.text(row['chance'])}" if math.isfinite(row["chance"]) else "",
            ),
        ]
        for _, row in found.iterrows()
    ]
    heads = ["importance of", "kind", "draws" if sweep.space.get("tune") else "trials", "share (%)"]
    return [page.Paragraph(note, "note"), page.Table(heads, rows, 2)]


def _path(sweep: Sweep) -> list[page.Part]:
    found = ablation_path(sweep)
    if len(found) < 3:  # one step is the difference that the ranking has
        return []
    metric = sweep.shown_metric
    unit = sweep.unit(metric)
    rows = []
    for _, row in found.iterrows():
        missing = f"not run: {row['not_run']}" if row["not_run"] else ""
        cells = [page.Cell(row["flipped"] or f"{row['arm']} (baseline)", missing)]
        cells += [page.Cell(unit.text(row["mean"])), interval_cell(row, "gain", unit)]
        rows.append([*cells, page.Cell(SHARE.text(row["share"]))])
    note = (
        "From the baseline to the best arm, each time by the change that gains the most: this explains, and "
        "claims nothing."
    )
    suffix = unit.difference_suffix
    heads = ["change", title_of(metric, unit), f"gain{suffix}", "share of the whole (%)"]
    return [page.Paragraph(note, "note"), page.Table(heads, rows, wrap=0)]


SECTION = Section(TITLE, _show)
