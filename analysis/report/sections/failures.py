"""Trials that diverged, failed or collapsed: how often, which, and why."""

from __future__ import annotations

import pandas as pd

from analysis.compare.outcomes import ABOVE_NOISE, MIN_REPORTS, OUTCOMES, outcomes
from analysis.compare.ranking import arms_in_order
from analysis.format import Unit, name_of, si
from analysis.report import page
from analysis.report.sections.base import Results, Section
from analysis.sweep import Sweep, records

SHARE = Unit(100.0, "%", "points", 0)


def _show(results: Results) -> list[page.Part]:
    sweep = results.sweep
    lost = sweep.trials[sweep.trials["status"].isin(["diverged", "failed"])]
    found = outcomes(sweep)
    parts = shares(sweep, found) if found[list(OUTCOMES)].to_numpy().any() else []
    if lost.empty:
        return parts
    rows = [
        [page.Cell(text) for text in (trial.trial_id, trial.status, trial.reason or "–", si(trial.samples))]
        for trial in records(lost)
    ]
    return [*parts, page.Table(["trial", "status", "reason", "samples"], rows, 2, 2)]


def shares(sweep: Sweep, found: pd.DataFrame) -> list[page.Part]:
    """A row an arm: the shares of its seeds with a run that diverged, failed or collapsed."""
    rows = [
        [
            page.Cell(row["arm"]),
            page.Cell(str(row["n"])),
            *(_share(row, outcome) for outcome in OUTCOMES),
        ]
        for _, row in found.set_index("arm", drop=False).loc[arms_in_order(sweep)].iterrows()
    ]
    note = (
        "Shares of an arm's seeds in the evidence, with exact 95% intervals (Clopper and Pearson). A run has "
        f"collapsed if it completed, but has lost at least half of its gain in {name_of(sweep.metric)}: its "
        f"best report less its first. The gain must be at least {ABOVE_NOISE} times the median step between "
        "reports in the second half of the run, as less may be noise; runs with fewer than "
        f"{MIN_REPORTS} reports count as not collapsed. A collapsed run is in its arm's mean."
    )
    heads = ["arm", "seeds", *(f"{outcome} ({SHARE.suffix})" for outcome in OUTCOMES)]
    return [page.Paragraph(note, "note"), page.Table(heads, rows)]


def _share(row: pd.Series, outcome: str) -> page.Cell:
    if not row["n"]:
        return page.Cell("–")
    ends = SHARE.ends(row[f"{outcome}_low"], row[f"{outcome}_high"])
    return page.Cell(SHARE.text(row[outcome] / row["n"]), f"{row[outcome]} of {row['n']} {ends}")


SECTION = Section("Diverged and failed", _show)
