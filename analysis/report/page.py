"""One HTML page in one file: escaped text, tables, inline SVG figures, light and dark, wide and narrow."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

from analysis.figures import INK, style

CSS = """
:root { color-scheme: light dark;
  --ink: #1b1b1d; --soft: #5c5f66; --line: #d9dbe0; --wash: #f5f6f8; --page: #fff;
  --shade: #0004; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --soft: #a2a6af; --line: #3a3d44; --wash: #1f2126; --page: #141518;
    --shade: #fff8; }
  figure svg, .dot { filter: brightness(1.25) saturate(.95); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .5rem; }
p, ul { max-width: 44rem; margin: .4rem 0 .8rem; }
li { margin: .3rem 0; }
p, li, td, dd { overflow-wrap: anywhere; }
.lead { font-size: 1.08rem; }
.note, figcaption, .ci { color: var(--soft); font-size: .85rem; }
.verdict { border-left: 3px solid var(--ink); padding: .2rem 0 .2rem 1rem; margin: 1.25rem 0; }
.scroll { overflow-x: auto; margin: .75rem 0;  /* a shadow at the side where there is more */
  background: linear-gradient(to left, var(--page) 2rem, transparent) right / 3rem 100% no-repeat local,
    radial-gradient(farthest-side at 100% 50%, var(--shade), transparent) right / 1rem 100% no-repeat; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .4rem .5rem; text-align: right; }
th { font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid var(--ink); line-height: 1.25; }
td { white-space: nowrap; border-bottom: 1px solid var(--line); vertical-align: top; }
th.text, td.text { text-align: left; }
th.wrap { text-align: left; }
td.wrap { white-space: normal; min-width: 14rem; text-align: left; }
th:first-child, td:first-child { padding-left: 0; position: sticky; left: 0; background: var(--page); }
.ci { display: block; }
.words { white-space: normal; max-width: 14rem; margin-left: auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr));
  gap: 1rem 2.5rem; align-items: start; margin: .75rem 0; }
figure { margin: 0; max-width: 30rem; }
figure svg { width: 100%; height: auto; display: block; color: var(--ink); }
figure svg text { font-family: inherit !important; }
figcaption { margin-top: .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: .75rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
pre { background: var(--wash); padding: .75rem 1rem; font-size: .85rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
code { font-size: .92em; }
summary { cursor: pointer; }
@media (max-width: 40rem) { body { padding-top: 1.25rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; } h1 { font-size: 1.4rem; } ul { padding-left: 1.2rem; }
  td:first-child { white-space: normal; min-width: 7rem; }
  .cards thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  .cards, .cards tbody { display: block; }
  .cards tr { display: grid; grid-template-columns: repeat(3, 1fr); gap: .4rem .6rem; padding: .7rem 0;
    border-bottom: 1px solid var(--line); }
  .cards td { border: 0; padding: 0; text-align: left; white-space: normal; }
  .cards td:first-child { grid-column: 1 / -1; font-weight: 600; position: static; }
  .cards td:first-child .ci { font-weight: 400; }
  .words { margin-left: 0; }
  .cards td:not(:first-child)::before { content: attr(data-head); display: block; color: var(--soft);
    font-size: .75rem; line-height: 1.25; } }
@media print { body { max-width: none; } .figures, tr { break-inside: avoid; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole document. `body` is HTML; `title` is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A headed part of the page, or nothing where all its parts are empty. `parts` are HTML."""
    content = "\n".join(part for part in parts if part)
    return (
        f'<section id="{anchor(title)}">\n<h2>{escape(title)}</h2>\n{content}\n</section>' if content else ""
    )


def anchor(title: str) -> str:
    """ "What cannot be concluded" -> "what-cannot-be-concluded": where a link within the page points."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def prose(text: str) -> str:
    """Text as HTML; what stands in `back-quotes` is code."""
    return re.sub("`([^`<>]+)`", r"<code>\1</code>", escape(text))


def paragraph(text: str, kind: str = "") -> str:
    """Nothing where there is no text."""
    if not text:
        return ""
    return f'<p class="{kind}">{prose(text)}</p>' if kind else f"<p>{prose(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{prose(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def details(summary: str, *parts: str) -> str:
    """Folded away under `summary`. `parts` are HTML."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    items = (f"<dt>{escape(term)}</dt><dd>{prose(text)}</dd>" for term, text in pairs)
    return f"<dl>{''.join(items)}</dl>"


def cell(text: str, interval: str = "", color: str = "", note: str = "") -> str:
    """A table's cell: text, an interval and a note in small print below it, a dot in an arm's colour before
    it."""
    dot = f'<span class="dot" aria-hidden="true" style="color:{_themed(color)}">● </span>' if color else ""
    small = ((interval, "ci"), (note, "ci words"))
    below = (f'<span class="{kind}">{escape(said)}</span>' for said, kind in small if said)
    return dot + escape(text) + "".join(below)


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1, wrap: int = -1, cards: bool = False
) -> str:
    """Cells are HTML (see `cell`). The first `text` columns are words, the column `wrap` breaks its lines.

    A table too wide for a phone scrolls there, or with `cards` shows each row as a list under its first cell.
    """

    def kind(column: int) -> str:
        return ' class="wrap"' if column == wrap else ' class="text"' if column < text else ""

    head = "".join(f'<th scope="col"{kind(i)}>{escape(name)}</th>' for i, name in enumerate(heads))
    lines = (
        "".join(f'<td{kind(i)} data-head="{escape(heads[i])}">{cell}</td>' for i, cell in enumerate(row))
        for row in rows
    )
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    inner = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    layout = ' class="cards"' if cards else ""
    return f'<div class="scroll"><table{layout}>{inner}</table></div>'


def figures(*parts: str) -> str:
    content = "\n".join(part for part in parts if part)
    return f'<div class="figures">{content}</div>' if content else ""


def figure(drawn: Figure, name: str, caption: str) -> str:
    """A figure as inline SVG whose ink follows the page's text colour. `name` keeps its ids apart."""
    out = io.StringIO()
    with style():
        drawn.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = _themed(svg[svg.index("<svg") :])
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
    return f"<figure>\n{svg}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def _themed(text: str) -> str:
    return text.replace(INK, "currentColor")
