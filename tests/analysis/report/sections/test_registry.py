"""The table of sections."""

from __future__ import annotations

from analysis.figures.registry import PLOTS
from analysis.report.sections.registry import SECTIONS


def test_every_figure_has_a_section_to_stand_in() -> None:
    titles = [section.title for section in SECTIONS]
    assert {plot.title for plot in PLOTS} <= set(titles)
    assert len(set(titles)) == len(titles)
