"""Cells of tables that several sections have."""

from __future__ import annotations

import pandas as pd

from analysis.format import Unit
from analysis.report import page


def interval_cell(row: pd.Series, key: str, unit: Unit, sign: bool = False) -> str:
    """A cell of a number with the ends of its interval."""
    names = (f"{key}_low", f"{key}_high") if f"{key}_low" in row else ("low", "high")
    low, high = (unit.text(row[name], sign=sign) for name in names)
    return page.cell(unit.text(row[key], sign=sign), f"[{low}, {high}]" if pd.notna(row[names[0]]) else "")
