"""What a figure is: a drawing, the words that stand with it, and when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from matplotlib.figure import Figure

from analysis.figures.style import of_width
from analysis.inference.intervals import MIN_FOR_INTERVAL
from analysis.sweep import Sweep

INTERVAL = f"95% interval over seeds (below {MIN_FOR_INTERVAL} seeds each one's value)"


@dataclass(frozen=True)
class Plot:
    """`name` is its file's; `title` the section of the page that it stands in; `caption` says what it shows;
    it is drawn where it `applies`. With `panels`, of which a few stand side by side, the page shows its wide
    form where there is room."""

    name: str
    title: str
    caption: Callable[[Sweep], str]
    draw: Callable[[Sweep], Figure]
    applies: Callable[[Sweep], bool]
    panels: bool = False


@dataclass(frozen=True)
class Drawn:
    """A figure of one sweep, drawn at each width when that is first asked for."""

    plot: Plot
    sweep: Sweep
    kept: dict[float, Figure] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        return self.plot.name

    @cached_property
    def caption(self) -> str:
        return self.plot.caption(self.sweep)

    def at(self, inches: float) -> Figure:
        """So wide: COLUMN or PAGE."""
        if inches not in self.kept:
            with of_width(inches):
                self.kept[inches] = self.plot.draw(self.sweep)
        return self.kept[inches]
