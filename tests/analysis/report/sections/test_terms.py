"""The page explains its terms, from the one glossary."""

from __future__ import annotations

import re

from analysis.report.build import render
from analysis.report.sections.terms import GLOSSARY, OF_A_SWEEP, terms
from analysis.sweep import load_sweep
from tests.analysis.synthetic import RECORDED


def test_every_term_of_a_sweep_is_on_the_page_without_links_or_marks() -> None:
    html = render(load_sweep(RECORDED))
    assert '<a href="#terms">' in html and '<section id="terms">' in html
    found = terms()
    assert {"arm", "draw", "trial", "rung", "evidence", "audit"} <= set(found)
    assert not any(re.search(r"\]\(|\n", text) for text in found.values())
    for term in found:
        assert f"<dt>{term}</dt>" in html
    assert "supervision step" not in found  # of TRM alone
    assert all(f"\n## {group}\n" in GLOSSARY.read_text() for group in OF_A_SWEEP)
