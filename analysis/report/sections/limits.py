"""What the results do not allow one to say."""

from __future__ import annotations

from analysis.report import page
from analysis.report.limits import cannot_be_concluded
from analysis.report.sections.base import Results, Section


def _show(results: Results) -> list[page.Part]:
    return [page.Bullets(cannot_be_concluded(results.sweep, results.ranked))]


SECTION = Section("What cannot be concluded", _show)
