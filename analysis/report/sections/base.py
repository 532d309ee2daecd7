"""What a section of the page is, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.figures.plot import Drawn
from analysis.figures.style import COLUMN, PAGE
from analysis.report.open_questions import Question, Step
from analysis.report.page import Part, Picture, said
from analysis.report.svg import inline
from analysis.sweep import Sweep


@dataclass(frozen=True)
class Results:
    """A sweep, and what has been worked out from it for the whole page."""

    sweep: Sweep
    ranked: pd.DataFrame  # of `rank_arms`
    drawn: Sequence[Drawn]
    questions: Sequence[Question]
    steps: Sequence[Step]

    def figures(self, title: str) -> list[Part]:
        """The figures that belong to the section of this title."""
        return [_picture(each) for each in self.drawn if each.plot.title == title]


def _picture(drawn: Drawn) -> Picture:
    title = drawn.caption.partition(". ")[0].rstrip(".")
    return Picture(
        drawn.caption,
        inline(drawn.at(COLUMN), drawn.name, title),
        inline(drawn.at(PAGE), f"{drawn.name}-wide", title) if drawn.plot.panels else "",
    )


@dataclass(frozen=True)
class Section:
    """`title` heads it, and is what its figures give for theirs; `show` gives its parts. It is left out
    where there are none, or where it does not apply."""

    title: str
    show: Callable[[Results], Sequence[Part]]
    applies: Callable[[Results], bool] = lambda results: True

    def parts(self, results: Results) -> list[Part]:
        return said(self.show(results)) if self.applies(results) else []
