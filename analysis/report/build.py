"""One self-contained HTML page about a sweep: `python -m analysis.report results/NAME` writes report.html.

It opens offline, and says no more than the data allow: which arm is ahead, by how much, what is still open.
Beside it, in report/, are its figures as PNG and PDF and its table as LaTeX and CSV, for a paper.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from analysis.compare.ranking import rank_arms
from analysis.figures.registry import figures_of
from analysis.format import join
from analysis.report import page
from analysis.report.explore import FILE as EXPLORE
from analysis.report.export import FOLDER, export
from analysis.report.open_questions import next_steps, open_questions
from analysis.report.sections.base import Results
from analysis.report.sections.opening import opening
from analysis.report.sections.registry import SECTIONS
from analysis.report.verdicts import FILE as VERDICTS
from analysis.report.verdicts import write_verdicts
from analysis.sweep import AnalysisError, Sweep, load_sweep

FILE = "report.html"


def write_report(folder: Path | str) -> Path:
    """Write report.html, verdicts.json and report/ into `folder` from its results; return the page's path.

    Whole or not at all: everything is made elsewhere and then put in place. Raises AnalysisError where the
    results cannot be read or no trial has completed; an older report then stays.
    """
    folder = Path(folder)
    sweep = load_sweep(folder)
    results, staging = _results(sweep), folder / f".{FOLDER}.{os.getpid()}"
    try:
        staging.mkdir()
        (staging / FILE).write_text(_page(results), encoding="utf-8")
        write_verdicts(sweep, staging / VERDICTS)
        export(sweep, results.drawn, results.steps, staging / FOLDER)
        _put_in_place(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder / FILE


def _put_in_place(staging: Path, folder: Path) -> None:
    """A folder cannot take another one's place in one step: the old one is put aside, and comes back."""
    place, aside = folder / FOLDER, staging / "old"
    if place.exists():
        place.rename(aside)
    try:
        (staging / FOLDER).rename(place)
        (staging / FILE).replace(folder / FILE)
        (staging / VERDICTS).replace(folder / VERDICTS)
    except OSError:
        if aside.exists():
            shutil.rmtree(place, ignore_errors=True)
            aside.rename(place)
        raise


def render(sweep: Sweep) -> str:
    """The page as text. Raises AnalysisError where no trial has completed with a value of the objective."""
    return _page(_results(sweep))


def _results(sweep: Sweep) -> Results:
    ranked = rank_arms(sweep)
    if not (ranked["n"] > 0).any():
        raise AnalysisError(_nothing_completed(sweep))
    questions = open_questions(sweep)
    return Results(sweep, ranked, figures_of(sweep), questions, next_steps(sweep, questions))


def _page(results: Results) -> str:
    parts = [(section.title, section.parts(results)) for section in SECTIONS]
    shown = [(title, content) for title, content in parts if content]
    return page.render("report.html.j2", **opening(results), sections=shown, explore=f"{FOLDER}/{EXPLORE}")


def _nothing_completed(sweep: Sweep) -> str:
    counts = sweep.trials["status"].value_counts()
    found = join([f"{number} {status}" for status, number in counts.items()]) or "no trials"
    reasons = sorted({reason.partition("\n")[0] for reason in sweep.trials["reason"]} - {""})[:3]
    return (
        f"{sweep.name}: no trial has completed with a finite {sweep.metric} ({found}), so there is nothing "
        f"to report{'; reasons: ' + ' | '.join(reasons) if reasons else ''}"
    )
