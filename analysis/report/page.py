"""The parts of the page, as data. `report.html.j2` says how each looks, and escapes all text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.figures.style import INK, Look

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Paragraph:
    """Text, in which `back-quotes` are code. `look`: a class of style.css."""

    kind: ClassVar = "paragraph"
    text: str
    look: str = ""

    def __bool__(self) -> bool:
        return bool(self.text)


@dataclass(frozen=True)
class Bullets:
    kind: ClassVar = "bullets"
    texts: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.texts)


@dataclass(frozen=True)
class Code:
    kind: ClassVar = "code"
    text: str


@dataclass(frozen=True)
class Definitions:
    """Pairs of a term and what it means."""

    kind: ClassVar = "definitions"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """Of a table: text, below it in small print an interval and a note, before it an arm's mark."""

    text: str
    interval: str = ""
    look: Look | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """The first `words` columns are words, the column `wrap` breaks its lines. One that is wider than the
    screen scrolls in its own box, below the first column's heads."""

    kind: ClassVar = "table"
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    wrap: int = -1

    @property
    def wide(self) -> bool:
        """Too wide for half of a page."""
        return len(self.heads) > 5 or self.wrap >= 0


@dataclass(frozen=True)
class Picture:
    """A figure as SVG: `narrow`, and where there is room `wide`, if it has that form."""

    kind: ClassVar = "picture"
    caption: str
    narrow: str
    wide: str = ""


@dataclass(frozen=True)
class Details:
    """Parts that are folded away under a line."""

    kind: ClassVar = "details"
    summary: str
    parts: Sequence[Part] = field(default=())


Part = Paragraph | Bullets | Code | Definitions | Table | Picture | Details


def said(parts: Iterable[Part]) -> list[Part]:
    """The parts that are not empty."""
    return [part for part in parts if part]


def anchor(title: str) -> str:
    """ "What cannot be concluded" -> "what-cannot-be-concluded": where a link within the page points."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def prose(text: str) -> Markup:
    """Text as HTML; what stands in `back-quotes` is code."""
    return Markup(re.sub("`([^`<>]+)`", r"<code>\1</code>", str(escape(text))))


def breakable(text: str) -> Markup:
    """A name may break after what separates its parts, rather than in the middle of a word."""
    return Markup(re.sub(r"([_=/.+])(?=[^\W\d])", r"\1<wbr>", str(escape(text))))


def themed(color: str) -> str:
    """The colour of a mark as the page has it: ink follows the text's colour."""
    return "currentColor" if color == INK else color


def render(template: str, **content: Any) -> str:
    """A template of this folder, filled in."""
    return _templates().get_template(template).render(**content)


def html(parts: Iterable[Part]) -> str:
    """Parts as they stand on the page."""
    show = _templates().get_template("parts.html.j2").module.part  # type: ignore[attr-defined]
    return "\n".join(str(show(part)) for part in said(parts))


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    found.filters |= {
        "prose": prose,
        "breakable": breakable,
        "anchor": anchor,
        "said": said,
        "themed": themed,
    }
    return found
