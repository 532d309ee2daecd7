"""What a figure is: a drawing, the words that stand with it, and when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis.inference.intervals import MIN_FOR_INTERVAL
from analysis.sweep import Sweep

INTERVAL = f"95% interval over seeds (below {MIN_FOR_INTERVAL} seeds each one's value)"


@dataclass(frozen=True)
class Plot:
    """`name` is its file's; `title` the section of the page that it stands in; `caption` says what it shows;
    it is drawn where it `applies`."""

    name: str
    title: str
    caption: Callable[[Sweep], str]
    draw: Callable[[Sweep], Figure]
    applies: Callable[[Sweep], bool]


@dataclass(frozen=True)
class Drawn:
    """A figure of one sweep."""

    name: str
    title: str
    caption: str
    figure: Figure
