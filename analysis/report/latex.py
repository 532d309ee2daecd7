"""The ranked table as LaTeX, for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap

import pandas as pd

from analysis.compare.ranking import rank_arms
from analysis.figures.style import short
from analysis.format import title_of
from analysis.report.table import (
    columns,
    how_decided,
    how_to_read,
    marked,
    outcome,
    unmatched_text,
)
from analysis.sweep import Sweep

PACKAGES = ("booktabs", "siunitx", "threeparttable")
HEAD = 8  # letters a line of a column's head
LONGEST = 32  # letters of an arm's name
_NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?")
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": r"$-$", "±": r"$\pm$", "×": r"$\times$",
    "–": "--", "†": r"$^\dagger$", "…": r"\dots{}", "|": r"\textbar{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX shows it, in any encoding of fonts."""
    text = text.replace('"', "''")
    return "".join(_SPECIAL.get(letter, letter) for letter in text).replace(r" $^\dagger$", r"$^\dagger$")


def to_latex(sweep: Sweep) -> str:
    """A `table*` with a caption and a label: numbers aligned at their decimal points, intervals in columns of
    their own, and what has to be said in notes below it."""
    notes = _Notes()
    rows = [row for _, row in rank_arms(sweep).iterrows()]
    heads, kinds = ["Arm"], ["l"]
    table = [[_name(sweep, row, notes) for row in rows]]
    for column in (column for column in columns(sweep) if column.for_paper):
        below = [escape(column.below(row)) for row in rows]
        marks = [notes.mark(column.note(row)) for row in rows]
        cells = [_cell(column.text(row)) for row in rows]
        if any(marks) and not any(below):
            cells = [f"{{{escape(column.text(row))}{mark}}}" for row, mark in zip(rows, marks, strict=True)]
        heads.append(_head(column.head))
        kinds.append(_kind(cells))
        table.append(cells)
        if any(below):
            heads.append(_head(column.below_head))
            kinds.append("r" if column.below_head.endswith("interval") else "l")
            table.append([text + mark for text, mark in zip(below, marks, strict=True)])
    styled = pd.DataFrame(dict(enumerate(table))).style.hide(axis="index")
    styled.format_index(lambda place: heads[int(str(place))], axis="columns")
    body = styled.to_latex(column_format="".join(kinds), hrules=True, siunitx=True)
    metric = sweep.shown_metric
    remarks = (unmatched_text(sweep), how_to_read(sweep), how_decided(sweep))
    label = re.sub(r"[^A-Za-z0-9]+", "-", sweep.name).strip("-")
    return "\n".join([
        f"% Needs \\usepackage{{{','.join(PACKAGES)}}}.",
        *(["% Has letters beyond ASCII: compile with LuaLaTeX or XeLaTeX, and a font that has them."]
          if not body.isascii() else []),
        r"\begin{table*}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3.5pt}",
        r"\sisetup{retain-explicit-plus,group-digits=none}",
        r"\makebox[\textwidth]{\begin{threeparttable}",  # in the middle also where it is wider than the text
        rf"\caption{{{escape(f'{sweep.name}: {title_of(metric, sweep.unit(metric))} by arm')}}}",
        rf"\label{{tab:{label}}}",
        body.rstrip(),
        r"\begin{tablenotes}\scriptsize",
        *notes.items(),
        *(rf"\item {escape(text)}" for text in remarks if text),
        r"\end{tablenotes}",
        r"\end{threeparttable}}",
        r"\end{table*}",
        "",
    ])  # fmt: skip


def _name(sweep: Sweep, row: pd.Series, notes: _Notes) -> str:
    """The arm; of a long name the ends, with the whole one in a note."""
    arm, name = str(row["arm"]), marked(sweep, row["arm"])
    whole = arm if len(arm) > LONGEST else ""
    return escape(short(name, LONGEST) if whole else name) + notes.mark(
        "; ".join(filter(None, [whole, outcome(row)]))
    )


class _Notes:
    """Notes below the table, each with a letter that its cells are marked with."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, text: str) -> str:
        if not text:
            return ""
        number = len(self._letters)
        letter = chr(ord("a") + number % 26) * (1 + number // 26)
        return rf"\tnote{{{self._letters.setdefault(text, letter)}}}"

    def items(self) -> list[str]:
        return [rf"\item[{letter}] {escape(text)}" for text, letter in self._letters.items()]


def _head(text: str) -> str:
    """A few words a line: the columns of a paper are narrow."""
    lines = r" \\ ".join(escape(line) for line in wrap(text, HEAD, break_long_words=False))
    return rf"\shortstack[r]{{{lines}}}" if text else ""


def _cell(text: str) -> str:
    """A number for siunitx, or text that it leaves alone."""
    number = text.replace("−", "-")
    return number if _NUMBER.fullmatch(number) else f"{{{escape(text)}}}"


def _kind(cells: Sequence[str]) -> str:
    """The type of a column with these cells: right-aligned text where none is a number."""
    found = [match for match in map(_NUMBER.fullmatch, cells) if match]
    if not found:
        return "r"
    sign = "+" if any(match[1] for match in found) else ""
    whole, part = (max(len(match[i] or "") for match in found) for i in (2, 3))
    return f"S[table-format={sign}{whole}{f'.{part}' if part else ''}]"
