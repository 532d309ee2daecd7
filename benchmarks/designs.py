"""How evidence is planned in `python -m benchmarks.coverage`: looks, pairing, margin and futility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.inference.rule import Rule
from analysis.inference.significance import Pairing

SEEDS = 8  # of the fixed design, and of each extension


@dataclass(frozen=True)
class Design:
    """`more_baseline`: the baseline gets half as many seeds again, named under `baseline_seeds`. `anytime`:
    an e-process looks at every seed."""

    pairing: Pairing
    looks: tuple[int, ...] = ()
    futility: float | None = None
    margin: float | None = None
    more_baseline: bool = False
    anytime: bool = False

    @property
    def rule(self) -> Rule:
        return Rule(
            pairing=self.pairing,
            looks=self.looks,
            anytime=self.anytime,
            margin=self.margin,
            futility=self.futility,
        )

    @property
    def seeds(self) -> int:
        return self.looks[-1] if self.looks else SEEDS

    def more(self, seeds: int) -> int:
        return seeds // 2 if self.more_baseline else 0

    @property
    def keys(self) -> dict[str, Any]:
        return {
            "pairing": self.pairing, "looks": "anytime" if self.anytime else list(self.looks),
            "futility": self.futility, "more_baseline": self.more_baseline,
        }  # fmt: skip
