"""What a section of the page is, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.figures.plot import Drawn
from analysis.report import page
from analysis.report.open_questions import Question, Step
from analysis.sweep import Sweep


@dataclass(frozen=True)
class Results:
    """A sweep, and what has been worked out from it for the whole page."""

    sweep: Sweep
    ranked: pd.DataFrame  # of `rank_arms`
    drawn: Sequence[Drawn]
    questions: Sequence[Question]
    steps: Sequence[Step]

    def figures(self, title: str) -> str:
        """The figures that belong to the section of this title, as HTML; '' where there is none."""
        mine = (each for each in self.drawn if each.title == title)
        return page.figures(*(page.figure(each.figure, each.name, each.caption) for each in mine))


def has_figures(title: str) -> Callable[[Results], bool]:
    """For a section that stands only where one of its figures does."""
    return lambda results: any(each.title == title for each in results.drawn)


@dataclass(frozen=True)
class Section:
    """`title` heads it, and is what its figures give for theirs; `show` gives its parts as HTML, of which
    empty ones are left out; it stands where it `applies`."""

    title: str
    show: Callable[[Results], Sequence[str]]
    applies: Callable[[Results], bool] = lambda results: True

    def html(self, results: Results) -> str:
        return page.section(self.title, *self.show(results)) if self.applies(results) else ""
