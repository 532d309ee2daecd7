"""The learning curves, and how to read them."""

from __future__ import annotations

from analysis.format import join
from analysis.report import page
from analysis.report.sections.base import Results, Section
from analysis.sweep import Sweep

TITLE = "Learning curves"


def _show(results: Results) -> list[page.Part]:
    drawn = results.figures(TITLE)
    return [page.Paragraph(_note(results.sweep), "note"), *drawn] if drawn else []


def _note(sweep: Sweep) -> str:
    missing = [
        f"{metric} over {over}"
        for metric, over in ((sweep.metric, "samples"), (sweep.metric, "flops"))
        if metric not in sweep.history
        or not (sweep.history[metric].notna() & sweep.history[over].notna()).any()
    ]
    return (
        "A mean is over the reports that all of an arm's completed trials have. Thin line to a cross: a "
        "single trial that was stopped or diverged."
        + (f" Not reported by the trainer: {join(missing)}." if missing else "")
    )


SECTION = Section(TITLE, _show)
