"""Do the report's intervals and claims keep what they promise? `python -m benchmarks.coverage`

Made-up sweeps whose truth is known, each put through the project's own `analysis.compare.ranking.compare`.
The same --seed and --sweeps give the same tables.

    coverage      share of nominal 95% intervals that hold the true value: of an arm's mean, of its difference
                  from the baseline paired and unpaired. Drawn are the differences (seeds shared) or the runs
                  (independent): normal, exponential, lognormal, or normal with one in ten collapsed by ten SD
    false claims  share of sweeps of five arms and a baseline, all alike, in which any difference is claimed
    power         share in which the one arm of five that differs is claimed, by an effect in SD of a paired
                  difference; as the only comparison, and with Holm's procedure over five. Beside each the
                  gap to the paired t-test with the same adjustment, on the same sweeps
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from analysis.compare.ranking import compare
from analysis.inference.intervals import ALPHA
from analysis.inference.significance import Pairing, Test, holm, seeds_needed
from analysis.sweep import Sweep

METRIC = "score"
FAMILY = 5  # arms beside the baseline
RULES = list(itertools.product(get_args(Test), get_args(Pairing)))
COLLAPSE, DEPTH = 0.1, -10.0
COVERAGE_N, FALSE_N = (5, 10, 20), (5, 8, 10)
POWER_AT, EFFECTS = ((0.0, 5), (0.0, 8), (0.0, 10), (0.0, 12), (0.5, 8)), (1, 2, 3)  # correlation and n

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def collapsing(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.normal(size=size) + DEPTH * (rng.random(size) < COLLAPSE)


DIFFERENCES: dict[str, tuple[Draw, float]] = {  # how they are drawn, and their true mean
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "lognormal": (lambda rng, size: rng.lognormal(size=size), math.exp(0.5)),
    "collapsing": (collapsing, COLLAPSE * DEPTH),
}


@lru_cache
def _blank(n: int, arms: int) -> Sweep:
    """A finished sweep of evidence alone; the first arm is the baseline."""
    names = [f"arm{place}" for place in range(arms)]
    index = pd.MultiIndex.from_product([range(n), names], names=["seed", "arm"])
    trials = index.to_frame(index=False).assign(draw=0, phase="evidence", status="completed")
    resolved = {"baseline": names[0], "arms": {name: {} for name in names}}
    return Sweep(trials, *[pd.DataFrame()] * 2, {"objective": {"metric": METRIC}, "resolved": resolved})


def compared(values: np.ndarray) -> pd.DataFrame:
    """`compare` on a sweep with these values [seeds, arms]."""
    blank = _blank(*values.shape)
    trials = blank.trials.assign(**{METRIC: values.ravel()})
    return compare(Sweep(trials, blank.history, blank.decisions, blank.space), METRIC)


def claimed(table: pd.DataFrame, test: str, pairing: str) -> np.ndarray:
    """Of which arms beside the baseline a difference would be claimed, were this the rule that decides."""
    p = table[f"{pairing}_{test}_p"].to_numpy(dtype=float)[1:]
    return holm(p) <= ALPHA


def coverage(kind: str, seeds: str, n: int, sweeps: int, rng: np.random.Generator) -> dict[str, Any]:
    """A row of the first table. Where seeds are shared, the paired differences are just what is drawn; else
    each run is, the baseline's too."""
    draw, mean = DIFFERENCES[kind]
    arms = 20 if seeds == "shared" else FAMILY  # independent runs share a baseline, and so their errors
    truths = {"mean": mean, "paired": mean if seeds == "shared" else 0.0}
    truths["unpaired"] = truths["paired"]
    held: dict[str, list[np.ndarray]] = {name: [] for name in truths}
    for _ in range(sweeps * FAMILY // arms):
        values = draw(rng, (n, arms + 1))
        if seeds == "shared":
            values[:, :1] = rng.normal(size=(n, 1))
            values[:, 1:] += values[:, :1]
        table = compared(values).iloc[1:]
        for name, truth in truths.items():
            low, high = (table[end if name == "mean" else f"{name}_{end}"] for end in ("low", "high"))
            held[name].append(((low <= truth) & (truth <= high)).to_numpy())
    shares = {name: round(float(np.mean(np.concatenate(found))), 4) for name, found in held.items()}
    row = {"drawn": kind, "seeds": seeds, "n": n, "interval": table["interval"].iloc[0], **shares}
    return row | {"of": len(held["mean"]) * arms}


def false_claims(kind: str, n: int, sweeps: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of the second table, one a rule."""
    draw, _ = DIFFERENCES[kind]
    tables = [compared(draw(rng, (n, FAMILY + 1))) for _ in range(sweeps)]
    for test, pairing in RULES:
        wrong = float(np.mean([claimed(table, test, pairing).any() for table in tables]))
        yield {"runs": kind, "n": n, "test": test, "pairing": pairing, "false": round(wrong, 4), "of": sweeps}


def power(
    correlation: float, n: int, effect: float, sweeps: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Rows of the third table, one a rule."""
    sd = math.sqrt(1 / (2 * (1 - correlation)))  # of a run, so that a paired difference has SD 1
    tables = []
    for _ in range(sweeps):
        own, shared = rng.normal(size=(n, FAMILY + 1)), rng.normal(size=(n, 1))
        values = sd * (math.sqrt(1 - correlation) * own + math.sqrt(correlation) * shared)
        values[:, 1] += effect
        tables.append(compared(values))
    reached = {
        rule: (
            float(np.mean([table["_".join((rule[1], rule[0], "p"))].iloc[1] <= ALPHA for table in tables])),
            float(np.mean([claimed(table, *rule)[0] for table in tables])),
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


def simulate(sweeps: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
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
            yield "false_claims", row
    for place, ((rho, n), effect) in enumerate(itertools.product(POWER_AT, EFFECTS)):
        for row in power(rho, n, effect, max(1, sweeps // 2), np.random.default_rng([seed, 2, place])):
            yield "power", row


RULE_NAMES = {
    ("t", "paired"): "paired t", ("permutation", "paired"): "sign-flip",
    ("t", "unpaired"): "Welch's t", ("permutation", "unpaired"): "two-sample permutation",
}  # fmt: skip
RULE_HEADS = " | ".join(RULE_NAMES.values())
HEADS = {
    "coverage": "| drawn | seeds | n | interval | mean % | paired difference % | unpaired difference % |",
    "false_claims": f"| runs | n | {RULE_HEADS} |",
    "power": f"| comparisons | correlation | n | effect | {RULE_HEADS} |",
}


def markdown(name: str, rows: list[dict[str, Any]]) -> list[str]:
    """A table's lines, in percent; behind power the gap to the paired t-test's, in points."""
    if name == "coverage":
        keys = ("drawn", "seeds", "n", "interval")
        lines = [
            [
                *(row[key] for key in keys),
                *(f"{100 * row[what]:.1f}" for what in ("mean", "paired", "unpaired")),
            ]
            for row in rows
        ]
    elif name == "false_claims":
        lines = [
            [runs, n, *(f"{100 * row['false']:.1f}" for row in _by_rule(group))]
            for (runs, n), group in _grouped(rows, ("runs", "n"))
        ]
    else:
        lines = [
            [number, *key, *(_power_cell(row, what) for row in _by_rule(group))]
            for what, number in (("alone", 1), ("holm", FAMILY))
            for key, group in _grouped(rows, ("correlation", "n", "effect"))
        ]
    rule = "|---" * (HEADS[name].count("|") - 1) + "|"
    return [HEADS[name], rule, *(f"| {' | '.join(map(str, cells))} |" for cells in lines)]


def _grouped(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, group in itertools.groupby(rows, lambda row: tuple(row[name] for name in keys)):
        yield key, list(group)


def _by_rule(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {(row["test"], row["pairing"]): row for row in rows}
    return [found[rule] for rule in RULE_NAMES]


def _power_cell(row: dict[str, Any], what: str) -> str:
    needed = seeds_needed(FAMILY if what == "holm" else 1, row["test"], row["pairing"])
    if row["n"] < needed:
        return f"n too small: {needed}"
    gap = "" if (row["test"], row["pairing"]) == ("t", "paired") else f" ({100 * row[f'{what}_gap']:+.1f})"
    return f"{100 * row[what]:.1f}{gap}"


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sweeps", type=int, default=1000, help="null sweeps a row (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    given = parser.parse_args()
    if given.sweeps < 1:
        parser.exit(2, f"--sweeps is {given.sweeps}: give a number of 1 or more\n")
    found: dict[str, list[dict[str, Any]]] = {}
    for name, group in itertools.groupby(simulate(given.sweeps, given.seed), lambda each: each[0]):
        found[name] = [row for _, row in group]
        print("\n".join(["", *markdown(name, found[name])]), flush=True)
    if given.out:
        given.out.write_text(
            json.dumps({"sweeps": given.sweeps, "seed": given.seed, **found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
