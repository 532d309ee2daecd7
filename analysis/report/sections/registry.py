"""The table of sections. Adding one is a file beside this one and its name here; see docs/extending.md.

The file NAME.py holds SECTION. The page has them in this order, below its opening.
"""

from __future__ import annotations

from importlib import import_module

from analysis.report.sections.base import Section

NAMES = (
    "claims",
    "ranking",
    "tuning",
    "factors",
    "curves",
    "cost",
    "depth",
    "stopped",
    "failures",
    "limits",
    "reproduce",
    "still_open",
    "terms",
)

SECTIONS: tuple[Section, ...] = tuple(
    import_module(f"analysis.report.sections.{name}").SECTION for name in NAMES
)
