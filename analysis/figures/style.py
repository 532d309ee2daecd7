"""How figures look: colours, marks, axes and labels; no global state of pyplot is touched.

Colours are Okabe and Ito's, told apart by colour-blind readers, of which the three lightest are darkened so
that thin lines show; markers and line styles tell arms apart in black and white. The baseline is drawn in the
ink of the text, and so is all text. A figure is as wide as a paper's column or its page (`of_width`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from textwrap import wrap
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.textpath import TextToPath
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from matplotlib.transforms import Affine2D

from analysis.format import si
from analysis.sweep import Sweep

INK = "#1b1b1d"  # the report turns this very colour into the page's text colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B4558D", "#A87400", "#6F4E37")
MARKERS = ("s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
LINES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)))
SVG_STEPS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
COLUMN, PAGE = 3.3, 7.0  # inches: the two widths of figures
LABEL = 7.5  # points
LETTER = 0.065  # inches, of an axis' title
LETTERS_OF_NAME = 24
NEAR = 0.93  # of the axes' width, from which a line ends at their edge
FALLBACK = (  # where Matplotlib's font lacks a letter
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Devanagari", "Noto Emoji", "PingFang SC",
    "Hiragino Sans", "Microsoft YaHei", "Nirmala UI", "Arial Unicode MS",
)  # fmt: skip
MANY = 6  # lines, above which bands are fainter
MOST = 12  # arms in one figure of curves
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "axes.grid": True, "axes.axisbelow": True, "grid.color": INK, "grid.alpha": 0.12,
    "grid.linewidth": 0.5, "lines.linewidth": 1.4, "lines.markersize": 4.5, "text.color": INK,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "figure.facecolor": "white", "axes.facecolor": "none", "savefig.facecolor": "white",
    "text.parse_math": False, "figure.dpi": 150, "svg.fonttype": "none", "svg.hashsalt": "figure",
    "pdf.fonttype": 42,
}  # fmt: skip

P = ParamSpec("P")
_WIDTH: ContextVar[float] = ContextVar("width", default=COLUMN)


@dataclass(frozen=True)
class Look:
    """How an arm is drawn, in every figure alike."""

    color: str
    marker: str
    line: Any

    @property
    def dashes(self) -> list[float]:
        """Strokes and gaps of the line in turn, in widths of the line; none if it has no gaps."""
        return [] if self.line == "-" else list(self.line[1])

    @property
    def outline(self) -> str:
        """The marker as a path of SVG, about one unit wide, around 0, 0, for a page that draws by itself."""
        marker = MarkerStyle(self.marker)
        down = marker.get_transform() + Affine2D().scale(1, -1)  # as SVG's y points
        path = marker.get_path().transformed(down)
        steps = path.iter_segments(simplify=False)
        return "".join(SVG_STEPS[code] + _numbers(() if code == Path.CLOSEPOLY else at) for at, code in steps)


def looks(sweep: Sweep) -> dict[str, Look]:
    """The baseline in ink; the other arms by their place in the plan, not by their rank."""
    others = [arm for arm in sweep.arms if arm != sweep.baseline]
    return dict(zip([sweep.baseline, *others], looks_of(len(sweep.arms)), strict=True))


def looks_of(count: int) -> list[Look]:
    """So many looks, the first in ink."""
    found = [Look(INK, "o", "-")]
    for i in range(count - 1):
        line = LINES[(i + 1) % len(LINES)]
        found.append(Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], line))
    return found


def _numbers(found: Iterable[float]) -> str:
    return " ".join(f"{each:.3f}".rstrip("0").rstrip(".") for each in found)


@contextmanager
def style() -> Iterator[None]:
    """The figures' settings, in force inside `with style():` and undone after it. A letter that no font has
    is a box in PNG and PDF, and whole on the page, whose browser has more of them: that is no warning."""
    with warnings.catch_warnings(), mpl.rc_context({**STYLE, "font.family": _fonts()}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


@cache
def _fonts() -> list[str]:
    """Matplotlib's own font, then those for other scripts that the machine has."""
    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACK if name in there)]


@contextmanager
def of_width(inches: float) -> Iterator[None]:
    """Figures that are made inside are so wide: COLUMN or PAGE."""
    token = _WIDTH.set(inches)
    try:
        yield
    finally:
        _WIDTH.reset(token)


def width() -> float:
    """Of the figures that are made now, in inches."""
    return _WIDTH.get()


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return inner


def make_axes(
    height: float, right: Sequence[str], left: Sequence[str] = (), below: float = 0.42
) -> tuple[Figure, Axes]:
    """Axes in a figure of its own. `right` and `left` are labels outside them, for which room is kept;
    `below` inches are for what stands under them."""
    if not left and width() > COLUMN:
        height += 0.5
    figure = Figure(figsize=(width(), height))
    room, margin = key_room(right), max(_width(left), 0.25) + 0.18
    top = 0.08 if left else 0.28  # of the title
    size = (1 - (margin + room) / width(), 1 - (below + top) / height)
    return figure, figure.add_axes((margin / width(), below / height, *size))


def make_grid(
    rows: int, columns: int, height: float, right: Sequence[str] = (), below: float = 0.42
) -> tuple[Figure, list[Axes]]:
    """So many axes, a row of them `height` inches high, with room for a title above each, `below` inches
    below it, and the numbers of its y axis; row by row."""
    figure = Figure(figsize=(width(), rows * height))
    step = (width() - key_room(right)) / columns
    return figure, [
        figure.add_axes((
            (column * step + 0.43) / width(), ((rows - 1 - row) * height + below) / (rows * height),
            (step - 0.5) / width(), (height - below - 0.3) / (rows * height),
        ))
        for row in range(rows) for column in range(columns)
    ]  # fmt: skip


def make_row(titles: Sequence[str], rows: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Axes side by side, a line for each of `rows`, named at the left; `titles` below them, in lines as wide
    as the axes."""
    letters = LETTERS_OF_NAME if len(titles) == 1 or width() > COLUMN else LETTERS_OF_NAME * 2 // 3
    names = [short(row, letters) for row in rows]
    margin = _width(names) + 0.18
    step = (width() - margin) / len(titles)
    said = [wrap(title, int((step - 0.1) / LETTER), break_long_words=False) for title in titles]
    below = 0.29 + 0.13 * max(map(len, said))
    height = 0.2 + below + 0.26 * max(len(rows), 1)
    figure = Figure(figsize=(width(), height))
    found = []
    for i, lines in enumerate(said):
        place = (margin + i * step) / width(), below / height
        axes = figure.add_axes((*place, (step - 0.18) / width(), 1 - (below + 0.08) / height))
        axes.set_yticks(range(len(rows)), names if i == 0 else [])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("\n".join(lines))
        found.append(axes)
    return figure, found


def _height(axes: Axes) -> float:
    """Of the axes, in inches."""
    return float(axes.get_window_extent().height / axes.figure.dpi)


def _width(labels: Sequence[str]) -> float:
    """Of the widest label, in inches."""
    measure, font = TextToPath().get_text_width_height_descent, FontProperties(size=LABEL)
    return max((float(measure(short(label), font, False)[0]) / 72 for label in labels), default=0.0)


def key_room(labels: Sequence[str]) -> float:
    """What a key of these labels takes at the right of axes, in inches."""
    return _width(labels) + 0.38 if labels else 0.1


def titled(axes: Axes, title: str) -> None:
    """The y axis is named above it, where it is read without turning one's head."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    top = axes.get_position().y1 + 0.22 / figure.get_figheight()
    axes.text(0.02, top, title, transform=figure.transFigure, va="top", ha="left", fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def draw_band(axes: Axes, rows: pd.DataFrame, x: str, look: Look, factor: float, lines: int) -> None:
    """Columns mean, low and high over `x` (times `factor`): a line, and a band where there is one, which is
    the fainter the more `lines` there are."""
    alpha = 0.18 if lines <= MANY else 0.08
    axes.fill_between(
        rows[x], rows["low"] * factor, rows["high"] * factor, color=look.color, alpha=alpha, lw=0
    )
    axes.plot(rows[x], rows["mean"] * factor, color=look.color, ls=look.line)


def draw_whiskers(axes: Axes, x: pd.Series, rows: pd.DataFrame, look: Look, factor: float) -> None:
    """Columns mean, low, high and values at `x` (times `factor`): marks joined by a line, and at each an
    interval, or the seeds' values where there is none."""
    draw_seeds(axes, x, rows, look, factor)
    axes.vlines(x, rows["low"] * factor, rows["high"] * factor, color=look.color, lw=1, alpha=0.7)
    axes.plot(x, rows["mean"] * factor, color=look.color, ls=look.line, marker=look.marker, lw=1.1)


def draw_values(axes: Axes, x: float, values: Sequence[float], look: Look, across: bool = False) -> None:
    """Small open marks, of single seeds, at `x`; with `across`, at the height `x`."""
    places = [x] * len(values)
    points = (values, places) if across else (places, values)
    axes.plot(*points, "o", mfc="none", mec=look.color, ms=3, mew=0.8)


def draw_seeds(axes: Axes, x: pd.Series, rows: pd.DataFrame, look: Look, factor: float) -> None:
    """Where a row has no interval (columns low and values), its seeds' values (times `factor`) at `x`."""
    for place, low, values in zip(x, rows["low"], rows["values"], strict=True):
        if np.isnan(low):
            draw_values(axes, float(place), [value * factor for value in values], look)


def finish_x(axes: Axes, label: str) -> None:
    """Name the x axis, with the power of ten of its numbers: "training FLOPs (10¹²)"."""
    axes.set_xlabel(label)
    if axes.get_xscale() != "linear":
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        return
    axes.xaxis.set_major_locator(MaxNLocator(5))
    power = 3 * int(np.log10(max(np.abs(axes.get_xlim()).max(), 1)) // 3)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:g}"))
    if power:
        axes.set_xlabel(f"{label} (10{str(power).translate(_RAISED)})")


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def label_ends(
    axes: Axes, ends: dict[str, tuple[float, float]], how: dict[str, Look], leaders: bool = True
) -> None:
    """A key of the arms right of the axes: each arm's mark, and its name in ink, at the height of its end,
    moved apart where they would touch. A short stroke outside the axes leads to it from a line that ends at
    their edge; one that ends before it is known by its mark."""
    if not ends:
        return
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    inch = axes.figure.dpi / axes.get_window_extent().width  # as a part of the axes' width
    gap = 0.135 / _height(axes) * (high - low)
    known: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "color": INK}
    for arm, place in zip(ends, spread([y for _, y in ends.values()], gap, high), strict=True):
        (x, end), at = ends[arm], (place - low) / (high - low)
        across = axes.transAxes.inverted().transform(axes.transData.transform((x, end)))[0]
        if leaders and across > NEAR:
            axes.plot([1, 1 + 0.1 * inch], [(end - low) / (high - low), at], "-", lw=0.5, alpha=0.5, **known)
        axes.plot([1 + 0.18 * inch], [at], how[arm].marker, **known | {"color": how[arm].color})
        axes.text(1 + 0.27 * inch, at, short(arm), va="center", fontsize=LABEL, **known)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def drawn_of(sweep: Sweep, most: int = MOST) -> str:
    """For a caption: that not every arm is drawn; '' where each is."""
    arms = len(sweep.arms)
    return f" Of {arms} arms {most} are drawn: the first, and the baseline." if arms > most else ""


def spread(places: Sequence[float], gap: float, high: float) -> np.ndarray:
    """Places moved so that neighbours are `gap` apart, from the top down where they would pass `high`."""
    order = np.argsort(places, kind="stable")
    out = np.asarray(places, dtype=float)[order]
    for i in range(1, len(out)):
        out[i] = max(out[i], out[i - 1] + gap)
    out = out - max(0.0, out[-1] - high)
    for i in range(len(out) - 2, -1, -1):
        out[i] = min(out[i], out[i + 1] - gap)
    result = np.empty(len(out))
    result[order] = out
    return result


def short(label: str, length: int = LETTERS_OF_NAME) -> str:
    """A long name without its middle: arms of one mixer differ at the end."""
    return label if len(label) <= length else f"{label[: length // 2 - 3]}…{label[-length // 2 - 2 :]}"
