"""The glossary's terms of a sweep, folded away at the end of the page."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.report import page
from analysis.report.sections.base import Results, Section

GLOSSARY = Path(__file__).parents[1] / "glossary.md"
OF_A_SWEEP = ("The comparison", "The two phases", "Early stopping", "The record")


def terms() -> dict[str, str]:
    """Each term that a report explains, and what it means, as text with `code` in back-quotes."""
    found: dict[str, str] = {}
    for group in GLOSSARY.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, *entries = group.split("\n### ")
        if title.strip() in OF_A_SWEEP:
            for entry in entries:
                term, _, text = entry.partition("\n")
                found[term.strip()] = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    return found


def _show(results: Results) -> list[page.Part]:
    return [page.Details("Arm, draw, rung, evidence, ...", [page.Definitions(list(terms().items()))])]


SECTION = Section("Terms", _show)
