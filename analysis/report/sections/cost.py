"""What accuracy costs: its figures."""

from __future__ import annotations

from analysis.report.sections.base import Section

TITLE = "Accuracy against size and compute"

SECTION = Section(TITLE, lambda results: results.figures(TITLE))
