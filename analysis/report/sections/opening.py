"""The page's head: what was asked, what came out, how many trials that rests on. It has no title of its own
beside the sweep's name."""

from __future__ import annotations

from analysis.report import page, sentences
from analysis.report.sections.base import Results
from analysis.report.sections.terms import SECTION as TERMS


def opening(results: Results) -> str:
    sweep = results.sweep
    counts = sweep.trials["status"].value_counts()
    trials = ", ".join(f"{number} {str(status).replace('_', ' ')}" for status, number in counts.items())
    return "\n".join(
        [
            f"<h1>{page.escape(sweep.name)}</h1>",
            page.paragraph(f"{sentences.question(sweep)} {sentences.design(sweep)}", "lead"),
            page.paragraph(sentences.verdict(sweep, results.ranked), "verdict lead"),
            page.paragraph(f"{len(sweep.trials)} trials: {trials}.", "note"),
            f'<p class="note"><a href="#{page.anchor(TERMS.title)}">Terms</a> are explained below.</p>',
        ]
    )
