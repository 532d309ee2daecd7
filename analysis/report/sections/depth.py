"""What trials of TRM say beyond one number: its figures."""

from __future__ import annotations

from analysis.report.sections.base import Section

TITLE = "Beyond one number"

SECTION = Section(TITLE, lambda results: results.figures(TITLE))
