"""What was tried in the search, and what was chosen: its figures."""

from __future__ import annotations

from analysis.report.sections.base import Section

TITLE = "Tuning"

SECTION = Section(TITLE, lambda results: results.figures(TITLE))
