"""Numbers as text: metrics in their units, counts with an SI prefix, significant digits only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NAMED = 5  # items of a long list that a sentence names
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Unit:
    """The display of a metric: value x `factor` with `decimals`; `difference` is the unit of differences.

    `limits` are the smallest and largest possible value of the metric.
    """

    factor: float
    suffix: str
    difference: str
    decimals: int | None
    limits: tuple[float, float] = (-math.inf, math.inf)

    @property
    def difference_suffix(self) -> str:
        """ " (points)", for the head of a column of differences; "" without a unit."""
        return f" ({self.difference})" if self.difference else ""

    def text(self, value: float, sign: bool = False) -> str:
        """The value as text, without its suffix; a dash if it is not finite."""
        if not math.isfinite(value):
            return "–"
        spec = f".{self.decimals}f" if self.decimals is not None else ".4g"
        return format(value * self.factor, ("+" if sign else "") + spec).replace("-", "−")

    def ends(self, low: float, high: float, sign: bool = False) -> str:
        """An interval as text: "[68.1, 74.2]"."""
        return f"[{self.text(low, sign)}, {self.text(high, sign)}]"

    def with_ends(self, value: float, low: float, high: float, sign: bool = False) -> str:
        """A value and its interval, if it has one: "71.2 [68.1, 74.2]"."""
        return self.text(value, sign) + (f" {self.ends(low, high, sign)}" if low == low else "")


SHARE = Unit(100.0, "%", "points", 1, (0.0, 1.0))
PERCENT = Unit(1.0, "%", "points", 1, (0.0, 100.0))
NO_UNIT = Unit(1.0, "", "", None)
AMOUNTS = {"samples": "samples", "flops": "FLOPs"}  # of training, by the column that has them
UNITS = {"share": SHARE, "percent": PERCENT, "none": NO_UNIT}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells in columns that are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def name_of(metric: str) -> str:
    """`val/exact_accuracy` -> "val exact accuracy"."""
    return metric.replace("/", " ").replace("_", " ")


def title_of(metric: str, unit: Unit) -> str:
    """`val/exact_accuracy` -> "val exact accuracy (%)"."""
    return name_of(metric) + (f" ({unit.suffix})" if unit.suffix else "")


def si(value: float) -> str:
    """1234567 -> "1.23M"; a dash if it is not finite."""
    if not math.isfinite(value):
        return "–"
    for size, prefix in _PREFIXES:
        if abs(value) >= size * (1 - 0.5e-3):
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"; 7260 -> "2 h 1 min"."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def p_text(p: float) -> str:
    """p with two significant digits; "< 0.001" instead of a rounded 0."""
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def p_words(p: float) -> str:
    """ "p = 0.021"; "p < 0.001"."""
    return f"p {'' if p < 0.001 else '= '}{p_text(p)}"


def join(words: list[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def few(words: list[str], most: int = NAMED) -> str:
    """`join` for a long list, with the first `most` items named: "a, b, c, d, e and 4 more"."""
    return join(words if len(words) <= most + 1 else [*words[:most], f"{len(words) - most} more"])
