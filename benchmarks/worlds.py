"""Made-up sweeps for `python -m benchmarks.coverage`: how the runs of the arms are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.inference.intervals import Limits
from benchmarks.families import NO_LIMITS, Values

Kind = Literal["normal", "bounded", "collapsing", "diverging", "diverging without limits"]
SHARE: Limits = (0.0, 1.0)
LOST = 0.1  # share of runs that collapse or diverge
MEASURED = (6.5, 1.3, 1.6, 8.3, 22.7)  # SDs over seeds of the arms of a real sweep, in points; baseline first
LARGEST = 17.0  # the ratio of the largest to the smallest of them


@dataclass(frozen=True)
class World:
    """`sds` are the runs' over seeds, the baseline's first; `correlation` is that of two arms over seeds.

    `effects` are the arms' differences from the baseline, the same in all sweeps; `effect_sd` adds to them
    normal ones, drawn anew in each sweep. Kinds other than normal are of shares between 0 and 1, all arms
    alike: `bounded` piles up at 1, in `collapsing` a tenth of the runs ends low, in `diverging` as NaN.
    """

    name: str
    sds: tuple[float, ...]
    correlation: float = 0.0
    effects: tuple[float, ...] = ()
    effect_sd: float = 0.0
    kind: Kind = "normal"

    @property
    def limits(self) -> Limits:
        return NO_LIMITS if self.kind in ("normal", "diverging without limits") else SHARE

    def true_effects(self, rng: np.random.Generator, sweeps: int) -> np.ndarray:
        """[sweeps, family]"""
        family = len(self.sds) - 1
        fixed = np.array(self.effects) if self.effects else np.zeros(family)
        return fixed + self.effect_sd * rng.standard_normal((sweeps, family))

    def draw(self, rng: np.random.Generator, effects: np.ndarray, seeds: int, more: int = 0) -> Values:
        """Values at so many seeds, and at `more` of the baseline's own."""
        sweeps = len(effects)
        shared = rng.standard_normal((sweeps, seeds + more, 1))
        own = rng.standard_normal((sweeps, seeds + more, len(self.sds)))
        runs = math.sqrt(1 - self.correlation) * own + math.sqrt(self.correlation) * shared
        if self.kind == "normal":
            runs *= self.sds
        elif self.kind == "bounded":
            runs = np.clip(0.97 + 0.03 * runs, *SHARE)
        else:
            runs = np.clip(0.8 + 0.02 * runs, *SHARE)
            low = 0.05 if self.kind == "collapsing" else math.nan
            runs[rng.random(runs.shape) < LOST] = low
        return Values(runs[:, :seeds, 1:] + effects[:, None, :], runs[:, :, 0], self.limits)


def spreads(arms: int) -> dict[str, tuple[float, ...]]:
    """The SDs of so many arms, by name; the baseline's first."""
    rising = np.geomspace(1, LARGEST, arms)
    middle = arms // 2
    return {
        "all 1": (1.0,) * arms,
        "1 to 17": (float(rising[middle]), *map(float, np.delete(rising, middle))),
        "baseline 1, arms to 17": tuple(map(float, rising)),
        "baseline 1, arms 4": (1.0, *(4.0,) * (arms - 1)),
    }
