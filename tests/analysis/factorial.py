"""Made-up sweeps over several factors: every trial completed, its final value given by a function."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.sweep import Sweep

METRIC = "val/score"  # has no bounds, and no counterpart on test


def factorial(
    factors: Mapping[str, Sequence[str]],
    value: Callable[[dict[str, str | None], int], float],
    *,
    seeds: Sequence[int] = range(8),
    keep: Callable[[dict[str, str | None]], bool] = lambda levels: True,
    only: Mapping[str, Callable[[dict[str, str | None]], bool]] | None = None,
    space: Mapping[str, Any] | None = None,
) -> Sweep:
    """All combinations of levels that `keep` wants. A factor in `only` exists where that says so."""
    arms: dict[str, dict[str, str | None]] = {}
    for combination in itertools.product(*factors.values()):
        levels: dict[str, str | None] = dict(zip(factors, combination, strict=True))
        levels |= {name: None for name, applies in (only or {}).items() if not applies(levels)}
        if keep(levels):
            arms["+".join(level for level in levels.values() if level)] = levels
    trials = [
        {
            "trial_id": f"{arm}-d0-s{seed}", "arm": arm, "draw": 0, "phase": "evidence", "seed": seed,
            "status": "completed", METRIC: value(levels, seed), "samples": 1000.0, "num_params": 100.0,
            "flops_per_sample": 10.0, "wall_s": 1.0,
        }
        for arm, levels in arms.items()
        for seed in seeds
    ]  # fmt: skip
    resolved = {
        "baseline": next(iter(arms)),
        "factors": list(factors),
        "arms": {arm: {"levels": {k: v for k, v in of.items() if v}} for arm, of in arms.items()},
    }
    whole = {"name": "made", "objective": {"metric": METRIC}, "resolved": resolved, **(space or {})}
    empty = pd.DataFrame({"trial_id": [], "samples": []})
    return Sweep(pd.DataFrame(trials), empty, pd.DataFrame(), whole)


def noise(*key: Any, sd: float = 1.0) -> float:
    """The same for the same key."""
    return float(np.random.default_rng([zlib.crc32(str(part).encode()) for part in key]).normal(0, sd))
