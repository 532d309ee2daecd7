"""What stands beside the page, in report/: each figure as PNG and PDF, as wide as a paper's column, and as
PDF as wide as its page (NAME_wide); the table as LaTeX and CSV; explore.html; and the search spaces that
settle what is open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from analysis.figures.plot import Drawn
from analysis.figures.style import COLUMN, PAGE, style
from analysis.report.explore import FILE as EXPLORE
from analysis.report.explore import explore
from analysis.report.latex import to_latex
from analysis.report.open_questions import Step
from analysis.report.table import to_csv
from analysis.sweep import Sweep

FOLDER = "report"
DPI = 300


def export(sweep: Sweep, drawn: Iterable[Drawn], steps: Iterable[Step], folder: Path) -> None:
    """Write all into `folder`, which is made."""
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text(to_csv(sweep), encoding="utf-8")
    (folder / "table.tex").write_text(to_latex(sweep), encoding="utf-8")
    (folder / EXPLORE).write_text(explore(sweep), encoding="utf-8")
    for step in steps:
        (folder / step.file).write_text(step.space, encoding="utf-8")
    with style():
        for each in drawn:
            each.at(COLUMN).savefig(folder / f"{each.name}.png", dpi=DPI, metadata={"Software": None})
            for name, figure in ((each.name, each.at(COLUMN)), (f"{each.name}_wide", each.at(PAGE))):
                figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Producer": None})
