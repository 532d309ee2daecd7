"""A sweep's arms beside published figures, as text for a terminal."""

from __future__ import annotations

from pathlib import Path

from analysis.compare.published import beside_published, rank_correlation, read_published
from analysis.compare.ranking import claim_of
from analysis.format import aligned, name_of, title_of
from analysis.sweep import load_sweep, records


def published_text(folder: Path, csv: Path) -> str:
    """The table of `beside_published`, and the rank correlation with its interval.

    Raises AnalysisError as `read_published` and `beside_published` do.
    """
    sweep = load_sweep(folder)
    metric = sweep.test_metric or sweep.metric
    unit = sweep.unit(metric)
    table = beside_published(sweep, read_published(csv))
    rows = [["arm", "published", "rank", title_of(metric, unit), "rank", "n", "published difference"]]
    rows[0] += ["difference [interval]", "verdict", "agrees"]
    for row in records(table):
        gaps = ["", "baseline"]
        if row.arm != sweep.baseline:
            low, high = unit.text(row.diff_low, sign=True), unit.text(row.diff_high, sign=True)
            gaps = [
                unit.text(row.published_diff, sign=True),
                f"{unit.text(row.diff, sign=True)} [{low}, {high}]",
            ]
        places = [f"{rank:g}" for rank in (row.published_rank, row.mean_rank)]
        ours = [unit.text(row.published), places[0], unit.text(row.mean), places[1], str(row.n)]
        rows.append([row.arm, *ours, *gaps, "" if row.arm == sweep.baseline else row.verdict, row.agrees])
    found = rank_correlation(table)
    interval = f", 95% interval {found.low:.2f} to {found.high:.2f}" if found.low == found.low else ""
    notes = [
        f"Rank correlation (Spearman) over {found.n} arms: {found.value:.2f}{interval} "
        "(Bonett & Wright 2000). It is about the order of such arms, not about more seeds of these.",
    ]
    if claim_of(sweep) == "exploratory":
        notes.append("Exploratory: the trials carry no claims.")
    return "\n".join([f"{sweep.name}, {name_of(metric)}, beside {csv.name}", "", *aligned(rows), "", *notes])
