"""A sweep's arms beside published figures, as text for a terminal."""

from __future__ import annotations

from pathlib import Path

from analysis.compare.comparisons import BASELINE
from analysis.compare.published import beside_published, rank_correlation, read_published
from analysis.format import aligned, name_of, title_of
from analysis.sweep import load_sweep, records


def published_text(folder: Path, csv: Path) -> str:
    """The table of `beside_published`, and the rank correlation with its interval.

    Raises AnalysisError as `read_published` and `beside_published` do.
    """
    sweep = load_sweep(folder)
    metric = sweep.shown_metric
    unit = sweep.unit(metric)
    table = beside_published(sweep, read_published(csv))
    rows = [["arm", "published", "rank", title_of(metric, unit), "rank", "n", "published difference"]]
    rows[0] += ["difference [interval]", "verdict", "agrees"]
    for row in records(table):
        values = [unit.text(row.published), f"{row.published_rank:g}"]
        values += [unit.text(row.mean), f"{row.mean_rank:g}", str(row.n)]
        if row.verdict == BASELINE:
            rows.append([row.arm, *values, "", BASELINE, "", ""])
            continue
        gap = unit.with_ends(row.diff, row.diff_low, row.diff_high, sign=True)
        if row.against != sweep.baseline:
            gap += f" to {row.against}"
        rows.append(
            [row.arm, *values, unit.text(row.published_diff, sign=True), gap, row.verdict, row.agrees]
        )
    found = rank_correlation(table)
    interval = f", 95% interval {found.low:.2f} to {found.high:.2f}" if found.low == found.low else ""
    notes = [
        f"Rank correlation (Spearman) over {found.n} arms: {found.value:.2f}{interval} "
        "(Bonett & Wright 2000). It is about the order of such arms, not about more seeds of these.",
    ]
    if sweep.is_exploratory:
        notes.append("Exploratory: the trials carry no claims.")
    return "\n".join([f"{sweep.name}, {name_of(metric)}, beside {csv.name}", "", *aligned(rows), "", *notes])
