"""The tables of `python -m benchmarks.coverage`, as Markdown, in percent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import fixed_tests
from benchmarks.designs import SEEDS

Row = dict[str, Any]
Table = tuple[list[str], list[list[Any]]]


def null_table(rows: list[Row]) -> Table:
    """A row a pairing, SDs and correlation; a column a design; a figure a number of arms."""
    names = {(tuple(row["looks"]), row["futility"] is not None): _design(row) for row in rows}
    head = ["test", "SDs", "correlation", "arms", *names.values()]
    keys = ("pairing", "more_baseline", "world", "correlation")
    cells = []
    for key in dict.fromkeys(tuple(row[name] for name in keys) for row in rows):
        mine = [row for row in rows if tuple(row[name] for name in keys) == key]
        shown = [
            ", ".join(
                f"{100 * row['false']:.1f}" for row in mine
                if (tuple(row["looks"]), row["futility"] is not None) == name
            )
            for name in names
        ]  # fmt: skip
        arms = ", ".join(map(str, dict.fromkeys(row["arms"] for row in mine)))
        cells.append([_test(mine[0]), key[2], key[3], arms, *shown])
    return head, sorted(cells, key=lambda each: each[0])


def cost_table(rows: list[Row]) -> Table:
    """A row for arms, effects and test; per design the seeds, and in brackets the power."""
    names = dict.fromkeys(_design(row) for row in rows)
    cells: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        power = "" if row["power"] is None else f" ({100 * row['power']:.1f}: {100 * row['power_gap']:+.1f})"
        key = row["arms"], row["world"], _test(row)
        cells.setdefault(key, []).append(f"{100 * row['cost']:.0f}{power}")
    return ["arms", "effects", "test", *names], [[*key, *shown] for key, shown in cells.items()]


def anytime_table(rows: list[Row]) -> Table:
    """A row for effects and correlation; a figure a number of arms."""
    shown = {"false claims": "false", "seeds": "cost", "fixed": "power_fixed", "power": "power"}
    shown["power, extended"] = "power_extended"
    cells = []
    for key in dict.fromkeys((row["world"], row["correlation"]) for row in rows):
        mine = [row for row in rows if (row["world"], row["correlation"]) == key]
        figures = [
            ", ".join("" if row[name] is None else f"{100 * row[name]:.1f}" for row in mine).strip(", ")
            for name in shown.values()
        ]
        cells.append([*key, ", ".join(str(row["arms"]) for row in mine), *figures])
    return ["effects", "correlation", "arms", *shown], cells


def best_mean_table(rows: list[Row]) -> Table:
    return ["arms", "design", "highest mean", "corrected"], [
        [row["arms"], _design(row), f"{row['naive']:+.3f}", f"{row['corrected']:+.3f} ±{row['error']:.3f}"]
        for row in rows
    ]


def interval_table(rows: list[Row]) -> Table:
    return ["test", "design", "margin", "of intervals %", "of sweeps, all intervals %"], [
        [_test(row), _design(row), row["margin"] or "", f"{100 * row['each']:.1f}", f"{100 * row['all']:.1f}"]
        for row in rows
    ]


def controller_table(rows: list[Row]) -> Table:
    return ["arms", "values", "test", "design", "margin", "the same"], [
        [
            row["arms"],
            row["world"],
            _test(row),
            _design(row),
            row["margin"] or "",
            f"{row['same']} of {row['of']}",
        ]
        for row in rows
    ]


def _test(row: Row) -> str:
    name = "paired t" if row["pairing"] == "paired" else "Welch"
    return f"{name}, more baseline seeds" if row["more_baseline"] else name


def _design(row: Row) -> str:
    if row["looks"] == "anytime":
        return "an e-process at each pair"
    looks = f"looks {', '.join(map(str, row['looks']))}" if row["looks"] else f"fixed, {SEEDS} seeds"
    return f"{looks}, futility" if row["futility"] else looks


TABLES: dict[str, Callable[[list[Row]], Table]] = {
    "false_claims": null_table,
    "at_margin": null_table,
    "not_normal": null_table,
    "costs": cost_table,
    "anytime": anytime_table,
    "best_mean": best_mean_table,
    "intervals": interval_table,
    "controller": controller_table,
    "coverage": fixed_tests.coverage_table,
    "fixed_false": fixed_tests.false_table,
    "fixed_power": fixed_tests.power_table,
}


def markdown(name: str, rows: list[Row]) -> list[str]:
    """A table's lines, in percent."""
    head, cells = TABLES[name](rows)
    lines = [head, ["---"] * len(head), *cells]
    return [f"| {' | '.join(map(str, each))} |" for each in lines]
