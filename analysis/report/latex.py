"""The ranked table as LaTeX, for a paper: needs \\usepackage{booktabs} and nothing else."""

from __future__ import annotations

import re
from textwrap import wrap

import pandas as pd

from analysis.compare.ranking import rank_arms
from analysis.report.table import (
    Column,
    columns,
    how_decided,
    how_to_read,
    marked,
    outcome,
    unmatched_text,
)
from analysis.sweep import Sweep

HEAD = 11  # letters a line of a column's head
NOTE = 24  # letters a line of a note
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
    """A `table` with a caption and a label; intervals in small print below their means."""
    shown = [column for column in columns(sweep) if not column.head.startswith("wall time")]
    heads = " & ".join(["Arm", *(_head(column.head) for column in shown)])
    rows = [
        " & ".join([_arm(sweep, row), *(_cell(column, row) for column in shown)]) + r" \\"
        for _, row in rank_arms(sweep).iterrows()
    ]
    label = re.sub(r"[^A-Za-z0-9]+", "-", sweep.name).strip("-")
    decided = escape(how_decided(sweep))
    caption = " ".join(filter(None, [escape(how_to_read(sweep)), escape(unmatched_text(sweep))]))
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            r"\begin{table}",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape(sweep.name)}. {caption}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {decided}}}"] if decided else []),
            r"\end{table}",
            "",
        ]
    )


def _arm(sweep: Sweep, row: pd.Series) -> str:
    """Its name, and what became of trials that did not complete."""
    return _stack(escape(marked(sweep, row["arm"])), [escape(outcome(row))], "l")


def _head(text: str) -> str:
    """A few words a line: the columns of a paper are narrow."""
    lines = r" \\ ".join(escape(line) for line in wrap(text, HEAD))
    return rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{lines}\end{{tabular}}"


def _cell(column: Column, row: pd.Series) -> str:
    lines = [column.below(row), *wrap(column.note(row), NOTE)]
    return _stack(escape(column.text(row)), [escape(line) for line in lines], "r")


def _stack(text: str, below: list[str], side: str) -> str:
    """With lines of small print below it, where there are any."""
    lines = [rf"{{\scriptsize {line}}}" for line in below if line]
    if not lines:
        return text
    return rf"\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}" + r" \\ ".join([text, *lines]) + r"\end{tabular}"
