"""Figures as SVG that stands in an HTML page."""

from __future__ import annotations

import io
import re
from html import escape

from matplotlib.figure import Figure

from analysis.figures.style import INK, style


def inline(drawn: Figure, name: str, title: str) -> str:
    """A figure whose ink and white follow the colours of the page. `name` keeps its ids apart from others."""
    out = io.StringIO()
    with style():
        drawn.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace("#ffffff", "var(--page)")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    head, _, rest = svg.partition(">")
    label = f'role="img" aria-labelledby="{name}-title"'
    return f'{head} {label}>\n<title id="{name}-title">{escape(title)}</title>{rest}'
