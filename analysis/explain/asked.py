"""The answers to `question: effects`: what each level of a factor changes, and what two levels do together.

Fixed numbers of seeds, no looks. All effects and interactions of the design are one family.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.compare.claims import Claims
from analysis.compare.ranking import lost_seeds, seed_table
from analysis.explain.effects import effect_weights
from analysis.explain.interactions import crossed, interaction_weights
from analysis.inference.contrasts import Contrast, contrast
from analysis.inference.decision import Comparison, decide
from analysis.inference.intervals import cut_ends, of_differences
from analysis.inference.rule import Rule
from analysis.inference.samples import NO_INTERVAL, Ends
from analysis.inference.sequential import Schedule
from analysis.sweep import Sweep


@dataclass(frozen=True)
class Effect:
    """A contrast of arms' means, as `analysis.inference.decision.decide` asks it.

    `table` [seed, arm] has the values, NaN where a run diverged or failed; `worst` is the value that it
    counts as in a second test, NaN if the metric has no limit: then no claim is made while one is missing.
    """

    table: pd.DataFrame
    weights: Mapping[str, float]
    rule: Rule
    maximise: bool
    lost: int
    worst: float
    limit: float  # of a contrast's size

    @cached_property
    def _left_out(self) -> Contrast:
        return self._contrast(self.table)

    @cached_property
    def _at_worst(self) -> Contrast | None:
        if not self.lost or self.rule.on_diverged != "worst":
            return None
        return self._contrast(self.table.fillna(self.worst))

    def _contrast(self, table: pd.DataFrame) -> Contrast:
        return contrast(table[[*self.weights]], [*self.weights.values()], self.rule.pairing)

    @property
    def seeds(self) -> list[int]:
        return self._seeds_of(1)

    @property
    def other_seeds(self) -> list[int]:
        return self._seeds_of(-1)

    def _seeds_of(self, sign: int) -> list[int]:
        """The seeds of the arms with this sign of weight."""
        arms = [arm for arm, weight in self.weights.items() if sign * weight > 0]
        return [int(seed) for seed in self.table[arms].dropna().index]

    @property
    def diff(self) -> float:
        return self._left_out.value

    @cached_property
    def p(self) -> float:
        first, other = self._left_out.p, self._at_worst
        if other is None or math.isnan(first):
            return first
        if math.isnan(self.worst):
            return 1.0
        same_side = np.sign(other.value) == np.sign(self.diff)
        return max(first, other.p) if same_side and math.isfinite(other.p) else 1.0

    @property
    def smallest_p(self) -> float:
        return 0.0 if self._left_out.has_spread else math.nan

    @property
    def equivalence_p(self) -> float:
        if self.rule.margin is None or not self._left_out.has_spread:
            return math.nan
        return 1.0 if self.lost else self._left_out.equivalence_p(self.rule.margin)

    @property
    def lost_text(self) -> str:
        return f"{self.lost} runs of its arms diverged or failed" if self.lost else ""

    def interval(self, level: float) -> Ends:
        if not self._left_out.has_spread:
            return NO_INTERVAL
        ends = self._left_out.t_ends(1 - level)
        if self._at_worst is not None:
            if math.isnan(self.worst) or not self._at_worst.has_spread:
                return NO_INTERVAL
            other = self._at_worst.t_ends(1 - level)
            ends = min(ends[0], other[0]), max(ends[1], other[1])
        return self._cut(ends)

    def equivalence_interval(self, level: float) -> Ends:
        return self._cut(self._left_out.equivalence_ends(level))

    def _cut(self, ends: Ends) -> Ends:
        return cut_ends(ends, (-self.limit, self.limit))

    def is_futile(self, schedule: Schedule, level: float) -> bool:
        return False


def effects_asked(sweep: Sweep, claims: Claims) -> list[Comparison]:
    """A comparison for each level of each factor with its reference, and for each interaction contrast.

    `arm` is "factor=level" or "factor=level x factor=level", `against` the reference. "better" and "worse"
    are as the objective has it; of an interaction: than the sum of the two effects.
    """
    table, lost = seed_table(sweep, claims.metric), lost_seeds(sweep)
    asked: dict[tuple[str, str], tuple[Mapping[str, float], int]] = {}
    for (factor, level, reference), weights in effect_weights(sweep).items():
        asked[f"{factor}={level}", f"{factor}={reference}"] = weights, 1
    for a, b in crossed(sweep):
        for (level_a, level_b), weights in interaction_weights(sweep, a, b).items():
            asked[f"{a}={level_a} x {b}={level_b}", "the sum of the two"] = weights, 2
    least, most = sweep.unit(claims.metric).limits
    worst = least if sweep.maximise else most
    measured = {
        key: Effect(
            table,
            weights,
            claims.rule,
            sweep.maximise,
            sum(len(lost.get(arm, ())) for arm in weights),
            worst if math.isfinite(worst) else math.nan,
            size * of_differences((least, most))[1],
        )
        for key, (weights, size) in asked.items()
    }
    planned = [Comparison(*key) for key in asked]
    return decide(planned, measured, claims.rule, 0, Schedule((1,)), claims.level)
