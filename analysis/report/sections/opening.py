"""The page's head: what came out, what was asked, on how many trials it rests. It stands above the contents,
and has no title of its own beside the sweep's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis.report import page, sentences
from analysis.report.sections.base import Results


def opening(results: Results) -> dict[str, Any]:
    """What the template of the page calls for besides the sections."""
    sweep = results.sweep
    counts = sweep.trials["status"].value_counts()
    trials = ", ".join(f"{number} {str(status).replace('_', ' ')}" for status, number in counts.items())
    return {
        "name": sweep.name,
        "headline": sentences.headline(sweep, results.ranked),
        "verdict": page.Paragraph(sentences.verdict(sweep, results.ranked), "verdict"),
        "asked": page.Paragraph(f"{sentences.question(sweep)} {sentences.design(sweep)}", "asked"),
        "counts": f"{len(sweep.trials)} trials: {trials}.",
        "mlflow": _in_mlflow(sweep.folder),
    }


def _in_mlflow(folder: Path | None) -> str:
    """The address of the sweep's runs in MLflow, as mlflow.json has it; '' without one."""
    try:
        link = str(json.loads((folder or Path("?")).joinpath("mlflow.json").read_text())["link"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return link if link.startswith(("http://", "https://")) else ""
