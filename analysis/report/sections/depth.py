"""What trials of TRM say beyond one number: its figures."""

from __future__ import annotations

from analysis.report.sections.base import Section, has_figures

TITLE = "Beyond one number"

SECTION = Section(TITLE, lambda results: [results.figures(TITLE)], has_figures(TITLE))
