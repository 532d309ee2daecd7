"""Do the report's intervals and claims keep what they promise? `python -m benchmarks.coverage`

Made-up sweeps whose truth is known, each put through the project's own `analysis.stats.compare`. The same
--seed and --sweeps give the same tables.

    coverage      share of nominal 95% intervals that hold the true value: of an arm's mean, of its difference
                  from the baseline paired and unpaired. Differences are normal, exponential, lognormal, or
                  normal with one run in ten collapsed by ten SD
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

from analysis.intervals import ALPHA
from analysis.load import Sweep
from analysis.significance import Pairing, Test, holm, seeds_needed
from analysis.stats import compare

METRIC = "score"
FAMILY = 5  # arms beside the baseline
RULES = list(itertools.product(get_args(Test), get_args(Pairing)))
COLLAPSE, DEPTH = 0.1, -10.0
COVERAGE_N, FALSE_N, POWER_N = (5, 10, 20), (5, 8, 10), (5, 8, 10, 20)
EFFECTS, CORRELATIONS = (1, 2, 3), (0.0, 0.5)
WITHIN = 3  # points of power

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


def coverage(kind: str, n: int, sweeps: int, arms: int, rng: np.random.Generator) -> dict[str, Any]:
    """A row of the first table, over `sweeps` x `arms` differences."""
    draw, truth = DIFFERENCES[kind]
    ends = {"mean": ("low", "high"), "paired": ("paired_low", "paired_high")}
    ends |= {"unpaired": ("unpaired_low", "unpaired_high")}
    held: dict[str, list[np.ndarray]] = {name: [] for name in ends}
    for _ in range(sweeps):
        luck = rng.normal(size=(n, 1))  # of the seed: the paired differences are just what is drawn
        table = compared(np.hstack([luck, luck + draw(rng, (n, arms))])).iloc[1:]
        for name, (low, high) in ends.items():
            held[name].append(((table[low] <= truth) & (truth <= table[high])).to_numpy())
    shares = {name: round(float(np.mean(np.concatenate(found))), 4) for name, found in held.items()}
    return {"differences": kind, "n": n, "interval": table["interval"].iloc[0], **shares, "of": sweeps * arms}


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
            "too_small": seeds_needed(FAMILY, test, pairing) > n, "of": sweeps,
        }  # fmt: skip


def simulate(sweeps: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row): false claims from `sweeps` each, power from half, coverage from 2 x `sweeps` intervals."""
    for place, (kind, n) in enumerate(itertools.product(DIFFERENCES, COVERAGE_N)):
        yield "coverage", coverage(kind, n, max(1, sweeps // 10), 20, np.random.default_rng([seed, 0, place]))
    for place, (kind, n) in enumerate(itertools.product(("normal", "collapsing"), FALSE_N)):
        for row in false_claims(kind, n, sweeps, np.random.default_rng([seed, 1, place])):
            yield "false_claims", row
    for place, (rho, n, effect) in enumerate(itertools.product(CORRELATIONS, POWER_N, EFFECTS)):
        for row in power(rho, n, effect, max(1, sweeps // 2), np.random.default_rng([seed, 2, place])):
            yield "power", row


HEADS = {
    "coverage": "| differences | n | interval | mean % | paired difference % | unpaired difference % |",
    "false_claims": "| runs | n | test | pairing | any false claim % |",
    "power": "| correlation | n | effect | test | pairing | alone % (gap) | Holm over five % (gap) |",
}


def line(name: str, row: dict[str, Any]) -> str:
    """The row as Markdown, in percent; gaps to the paired t-test in points."""
    if name == "coverage":
        cells = [row["differences"], row["n"], row["interval"]]
        cells += [f"{100 * row[what]:.1f}" for what in ("mean", "paired", "unpaired")]
    elif name == "false_claims":
        cells = [row[key] for key in ("runs", "n", "test", "pairing")] + [f"{100 * row['false']:.1f}"]
    else:
        cells = [row[key] for key in ("correlation", "n", "effect", "test", "pairing")]
        cells += [f"{100 * row[key]:.0f} ({100 * row[f'{key}_gap']:+.0f})" for key in ("alone", "holm")]
        cells[-1] = "n too small" if row["too_small"] else cells[-1]
    return f"| {' | '.join(map(str, cells))} |"


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
    for name, row in simulate(given.sweeps, given.seed):
        if name not in found:
            print(f"\n{HEADS[name]}\n{'|---' * (HEADS[name].count('|') - 1)}|")
        found.setdefault(name, []).append(row)
        print(line(name, row), flush=True)
    if given.out:
        given.out.write_text(
            json.dumps({"sweeps": given.sweeps, "seed": given.seed, **found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
