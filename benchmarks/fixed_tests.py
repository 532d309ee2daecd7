"""The project's tests and intervals at a fixed number of seeds, on made-up values whose truth is known.

`python -m benchmarks.coverage` prints these tables beside those of whole sweeps with looks.

    coverage      share of nominal 95% intervals that hold the true value: of an arm's mean, of its difference
                  from the baseline paired and unpaired. Drawn are the differences (seeds shared) or the runs
                  (independent): normal, exponential, lognormal, or normal with one in ten collapsed by ten SD
    fixed_false   share of families of five arms and a baseline, all alike, in which any difference is
                  claimed, by Holm's procedure at 5%
    fixed_power   share in which the one arm of five that differs is claimed, by an effect in SD of a paired
                  difference; as the only comparison, and with Holm's procedure over five. Beside each the
                  gap to the paired t-test with the same adjustment, on the same values
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np

from analysis.inference.intervals import ALPHA, mean_interval
from analysis.inference.samples import Samples
from analysis.inference.significance import Pairing, Test, holm, seeds_needed

FAMILY = 5  # arms beside the baseline
RULES: list[tuple[Test, Pairing]] = list(itertools.product(get_args(Test), get_args(Pairing)))
COLLAPSE, DEPTH = 0.1, -10.0
COVERAGE_N, FALSE_N = (5, 10, 20), (5, 8, 10)
POWER_AT, EFFECTS = ((0.0, 5), (0.0, 8), (0.0, 10), (0.0, 12), (0.5, 8)), (1, 2, 3)  # correlation and n

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
Row = dict[str, Any]


def collapsing(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.normal(size=size) + DEPTH * (rng.random(size) < COLLAPSE)


DIFFERENCES: dict[str, tuple[Draw, float]] = {  # how they are drawn, and their true mean
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "lognormal": (lambda rng, size: rng.lognormal(size=size), math.exp(0.5)),
    "collapsing": (collapsing, COLLAPSE * DEPTH),
}


def p_values(values: np.ndarray) -> dict[tuple[Test, Pairing], np.ndarray]:
    """By each of the four tests, of each column of `values` [seeds, arms] against the first one."""
    return {
        (test, pairing): np.array([Samples(arm, values[:, 0], test, pairing).p for arm in values.T[1:]])
        for test, pairing in RULES
    }


def coverage(kind: str, seeds: str, n: int, sweeps: int, rng: np.random.Generator) -> Row:
    """A row of the first table. Where seeds are shared, the paired differences are just what is drawn; else
    each run is, the baseline's too."""
    draw, mean = DIFFERENCES[kind]
    arms = 20 if seeds == "shared" else FAMILY  # independent runs share a baseline, and so their errors
    difference = mean if seeds == "shared" else 0.0
    held: dict[str, list[bool]] = {"mean": [], "paired": [], "unpaired": []}
    method = ""
    for _ in range(sweeps * FAMILY // arms):
        values = draw(rng, (n, arms + 1))
        if seeds == "shared":
            values[:, :1] = rng.normal(size=(n, 1))
            values[:, 1:] += values[:, :1]
        for arm in values.T[1:]:
            own = mean_interval(arm)
            method = own.method
            held["mean"].append(own.low <= mean <= own.high)
            for pairing in get_args(Pairing):
                low, high = Samples(arm, values[:, 0], "t", pairing).interval(ALPHA)
                held[pairing].append(low <= difference <= high)
    shares = {name: round(float(np.mean(found)), 4) for name, found in held.items()}
    return {"drawn": kind, "seeds": seeds, "n": n, "interval": method, **shares, "of": len(held["mean"])}


def false_claims(kind: str, n: int, sweeps: int, rng: np.random.Generator) -> Iterator[Row]:
    """Rows of the second table, one a test."""
    draw, _ = DIFFERENCES[kind]
    found = [p_values(draw(rng, (n, FAMILY + 1))) for _ in range(sweeps)]
    for test, pairing in RULES:
        wrong = float(np.mean([(holm(p[test, pairing]) <= ALPHA).any() for p in found]))
        yield {"runs": kind, "n": n, "test": test, "pairing": pairing, "false": round(wrong, 4), "of": sweeps}


def power(correlation: float, n: int, effect: float, sweeps: int, rng: np.random.Generator) -> Iterator[Row]:
    """Rows of the third table, one a test."""
    sd = math.sqrt(1 / (2 * (1 - correlation)))  # of a run, so that a paired difference has SD 1
    found = []
    for _ in range(sweeps):
        own, shared = rng.normal(size=(n, FAMILY + 1)), rng.normal(size=(n, 1))
        values = sd * (math.sqrt(1 - correlation) * own + math.sqrt(correlation) * shared)
        values[:, 1] += effect
        found.append(p_values(values))
    reached = {
        rule: (
            float(np.mean([p[rule][0] <= ALPHA for p in found])),
            float(np.mean([holm(p[rule])[0] <= ALPHA for p in found])),
        )
        for rule in RULES
    }
    for (test, pairing), (alone, held) in reached.items():
        t_alone, t_held = reached["t", "paired"]
        yield {
            "correlation": correlation, "n": n, "effect": effect, "test": test, "pairing": pairing,
            "alone": round(alone, 4), "alone_gap": round(alone - t_alone, 4),
            "holm": round(held, 4), "holm_gap": round(held - t_held, 4),
            "of": sweeps,
        }  # fmt: skip


def simulate(sweeps: int, seed: int) -> Iterator[tuple[str, Row]]:
    """(table, row): false claims from `sweeps` each, power from half, coverage from twice as many."""
    kinds = [
        *((kind, "shared") for kind in DIFFERENCES),
        ("normal", "independent"),
        ("collapsing", "independent"),
    ]
    for place, ((kind, seeds), n) in enumerate(itertools.product(kinds, COVERAGE_N)):
        rng = np.random.default_rng([seed, 0, place])
        yield "coverage", coverage(kind, seeds, n, max(4, 2 * sweeps // FAMILY), rng)
    for place, (kind, n) in enumerate(itertools.product(("normal", "collapsing"), FALSE_N)):
        for row in false_claims(kind, n, sweeps, np.random.default_rng([seed, 1, place])):
            yield "fixed_false", row
    for place, ((rho, n), effect) in enumerate(itertools.product(POWER_AT, EFFECTS)):
        for row in power(rho, n, effect, max(1, sweeps // 2), np.random.default_rng([seed, 2, place])):
            yield "fixed_power", row


RULE_NAMES: dict[tuple[Test, Pairing], str] = {
    ("t", "paired"): "paired t", ("permutation", "paired"): "sign-flip",
    ("t", "unpaired"): "Welch's t", ("permutation", "unpaired"): "two-sample permutation",
}  # fmt: skip


def coverage_table(rows: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Head and cells, in percent."""
    keys, shares = ("drawn", "seeds", "n", "interval"), ("mean", "paired", "unpaired")
    head = [
        "drawn", "seeds", "n", "interval of a mean", "mean %", "paired difference %", "unpaired difference %"
    ]  # fmt: skip
    return head, [
        [*(row[key] for key in keys), *(f"{100 * row[what]:.1f}" for what in shares)] for row in rows
    ]


def false_table(rows: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Head and cells, in percent."""
    cells = [
        [runs, n, *(f"{100 * row['false']:.1f}" for row in _by_rule(group))]
        for (runs, n), group in _grouped(rows, ("runs", "n"))
    ]
    return ["runs", "n", *RULE_NAMES.values()], cells


def power_table(rows: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Head and cells, in percent; in brackets the gap to the paired t-test, in points."""
    cells = [
        [number, *key, *(_power_cell(row, what) for row in _by_rule(group))]
        for what, number in (("alone", 1), ("holm", FAMILY))
        for key, group in _grouped(rows, ("correlation", "n", "effect"))
    ]
    return ["comparisons", "correlation", "n", "effect", *RULE_NAMES.values()], cells


def _grouped(rows: list[Row], keys: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    for key, group in itertools.groupby(rows, lambda row: tuple(row[name] for name in keys)):
        yield key, list(group)


def _by_rule(rows: list[Row]) -> list[Row]:
    found = {(row["test"], row["pairing"]): row for row in rows}
    return [found[rule] for rule in RULE_NAMES]


def _power_cell(row: Row, what: str) -> str:
    needed = seeds_needed(FAMILY if what == "holm" else 1, row["test"], row["pairing"])
    if row["n"] < needed:
        return f"n too small: {needed}"
    gap = "" if (row["test"], row["pairing"]) == ("t", "paired") else f" ({100 * row[f'{what}_gap']:+.1f})"
    return f"{100 * row[what]:.1f}{gap}"
