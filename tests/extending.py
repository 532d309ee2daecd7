"""The examples of docs/extending.md, as they stand there."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "extending.md"


def blocks(section: str) -> dict[str, str]:
    """The code blocks of `## SECTION`, by the path that each one's first line names in a comment."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"```\w+\n(# (\S+)\n.*?)```", text, re.DOTALL)
    return {path: code for code, path in found}
