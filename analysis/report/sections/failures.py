"""Trials that diverged or failed, and why."""

from __future__ import annotations

from analysis.format import si
from analysis.report import page
from analysis.report.sections.base import Results, Section
from analysis.sweep import records


def _show(results: Results) -> list[str]:
    trials = results.sweep.trials
    lost = trials[trials["status"].isin(["diverged", "failed"])]
    if lost.empty:
        return []
    rows = [
        [page.cell(text) for text in (trial.trial_id, trial.status, trial.reason or "–", si(trial.samples))]
        for trial in records(lost)
    ]
    return [page.table(["trial", "status", "reason", "samples"], rows, 2, 2)]


SECTION = Section("Diverged and failed", _show)
