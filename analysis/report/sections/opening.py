"""The page's head: what was asked, what came out, how many trials that rests on. It has no title of its own
beside the sweep's name."""

from __future__ import annotations

import json
from pathlib import Path

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
            f'<p class="note"><a href="#{page.anchor(TERMS.title)}">Terms</a> are explained below.'
            f"{_in_mlflow(sweep.folder)}</p>",
        ]
    )


def _in_mlflow(folder: Path | None) -> str:
    """A link to the sweep's runs in MLflow, as mlflow.json has it; '' without one."""
    try:
        link = str(json.loads((folder or Path("?")).joinpath("mlflow.json").read_text())["link"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if not link.startswith(("http://", "https://")):
        return ""
    place = f'<a href="{page.escape(link)}">in MLflow</a>'
    return f" The runs are {place}, while its server or <code>mlflow ui</code> runs."
