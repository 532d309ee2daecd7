"""What a factor's levels do: differences between arms that agree in all else, and cells of two factors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from analysis.load import Sweep
from analysis.stats import seed_table, t_interval

EFFECTS = ("factor", "level", "reference", "n", "mean", "low", "high")
CELLS = ("level_a", "level_b", "n", "mean", "low", "high")


def levels_of(sweep: Sweep) -> dict[str, dict[str, str]]:
    """By arm, the level of each factor that it has, as text: lists are levels too."""
    arms = sweep.resolved.get("arms") or {}
    return {
        arm: {factor: str(level) for factor, level in ((arms.get(arm) or {}).get("levels") or {}).items()}
        for arm in sweep.arms
    }


def levels_in(sweep: Sweep, factor: str) -> list[str]:
    """The factor's levels, the baseline's (or else the plan's first) before the others."""
    had = levels_of(sweep)
    found = [had[arm][factor] for arm in [sweep.baseline, *sweep.arms] if factor in had[arm]]
    return list(dict.fromkeys(found))


def effects(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """A row a level of each factor but its reference level: what changing to it does to `metric`.

    At each seed, the mean difference between arms with the level and arms with the reference that agree in
    every other factor which both have; then mean and 95% Student-t interval over seeds. A pair of which an
    arm has no value at any seed is left out.
    """
    table, had, rows = seed_table(sweep, metric or sweep.test_metric or sweep.metric), levels_of(sweep), []
    known = [arm for arm in sweep.arms if table[arm].notna().any()]
    for factor in sweep.factors:
        reference, *others = levels_in(sweep, factor) or [""]
        for level in others:
            pairs = [
                (arm, other)
                for arm in known
                for other in known
                if had[arm].get(factor) == level
                and had[other].get(factor) == reference
                and _agree(had[arm], had[other], factor)
            ]
            differences = pd.DataFrame([table[arm] - table[other] for arm, other in pairs])
            gap = t_interval(differences.mean(skipna=False))
            rows.append((factor, level, reference, gap.n, gap.mean, gap.low, gap.high))
    found = pd.DataFrame(rows, columns=list(EFFECTS))
    return found[found["n"] > 0].reset_index(drop=True)


def _agree(one: dict[str, str], other: dict[str, str], factor: str) -> bool:
    return all(one[name] == other[name] for name in set(one) & set(other) - {factor})


def crossed(sweep: Sweep) -> list[tuple[str, str]]:
    """Pairs of factors with two levels each or more in all combinations of which some arm has a value.

    The one to be drawn along the x axis comes first: it has numbers for levels, or more of them.
    """
    found = []
    for pair in combinations(sweep.factors, 2):
        a, b = sorted(pair, key=lambda name: (not _numeric(levels_in(sweep, name)), -_count(sweep, name)))
        grid = cells(sweep, a, b).pivot(index="level_a", columns="level_b", values="mean").notna()
        whole = grid.loc[:, grid.sum() >= 2]
        if whole.shape[1] >= 2 and (whole.sum(axis=1) >= 2).sum() >= 2:
            found.append((a, b))
    return found


def cells(sweep: Sweep, a: str, b: str, metric: str | None = None) -> pd.DataFrame:
    """Mean of `metric` and its 95% Student-t interval over seeds, for each two levels of two factors.

    A cell's value at a seed is the mean of its arms, where all of those that have values have one there.
    """
    table, had, rows = seed_table(sweep, metric or sweep.test_metric or sweep.metric), levels_of(sweep), []
    for level_a in _in_order(levels_in(sweep, a)):
        for level_b in _in_order(levels_in(sweep, b)):
            arms = [arm for arm in sweep.arms if (had[arm].get(a), had[arm].get(b)) == (level_a, level_b)]
            mine = table[[arm for arm in arms if table[arm].notna().any()]]
            own = t_interval(mine.mean(axis=1, skipna=False))
            rows.append((level_a, level_b, own.n, own.mean, own.low, own.high))
    return pd.DataFrame(rows, columns=list(CELLS))


def _count(sweep: Sweep, factor: str) -> int:
    return len(levels_in(sweep, factor))


def _in_order(levels: Sequence[str]) -> list[str]:
    """Numbers by size, anything else as it stands."""
    return sorted(levels, key=float) if _numeric(levels) else list(levels)


def _numeric(levels: Sequence[str]) -> bool:
    try:
        return bool([float(level) for level in levels])
    except ValueError:
        return False
