"""Cells of tables that several sections have."""

from __future__ import annotations

import pandas as pd

from analysis.format import Unit
from analysis.report import page


def interval_cell(row: pd.Series, key: str, unit: Unit) -> page.Cell:
    """A cell of a difference with the ends of its interval, or the seeds' `values` where the row has none."""
    names = (f"{key}_low", f"{key}_high") if f"{key}_low" in row else ("low", "high")
    below = ""
    if pd.notna(row[names[0]]):
        below = unit.ends(row[names[0]], row[names[1]], sign=True)
    elif len(row.get("values", ())) > 1:
        below = "seeds: " + ", ".join(unit.text(value, sign=True) for value in row["values"])
    return page.Cell(unit.text(row[key], sign=True), below)
