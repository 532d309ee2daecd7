"""The answers to the questions that are not of the arms' means, asked once, of all seeds.

`effects`: what each level of a factor changes, and what two levels do together; all effects and interactions
of the design are one family. `spread`: each arm's SD over seeds against the baseline's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.compare.claims import Claims
from analysis.compare.ranking import lost_seeds, seed_table, values_of
from analysis.explain.effects import effect_weights
from analysis.explain.interactions import crossed, interaction_weights
from analysis.inference.contrasts import Contrast, contrast
from analysis.inference.decision import Comparison, Measured, decide
from analysis.inference.intervals import cut_ends, of_differences
from analysis.inference.rule import Rule
from analysis.inference.samples import NO_INTERVAL, Ends, Pair
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
        return 0.0 if self._left_out.n > 1 else math.nan

    @property
    def equivalence_p(self) -> float:
        if self.rule.margin is None or not self._left_out.has_spread:
            return math.nan
        return 1.0 if self.lost else self._left_out.equivalence_p(self.rule.margin)

    @property
    def note(self) -> str:
        """That runs have no value, or that their values do not differ, which leaves t undefined."""
        lost = f"{self.lost} runs of its arms diverged or failed" if self.lost else ""
        still = self._left_out.n > 1 and not self._left_out.has_spread
        return "; ".join(
            filter(None, [lost, "no spread over seeds, so that there is no test" if still else ""])
        )

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


Key = tuple[str, str]  # (arm, against) of a comparison
Weights = Mapping[str, float]


def asked(sweep: Sweep, claims: Claims) -> list[Comparison]:
    """The comparisons that answer question effects or spread.

    Effects: one for each level of each factor with its reference, and for each interaction contrast. `arm` is
    "factor=level" or "factor=level x factor=level", `against` the reference. "better" and "worse" are as the
    objective has it; of an interaction: than the sum of the two effects. Spread: one for each arm with the
    baseline, and less is better.
    """
    measured = _spreads(sweep, claims) if claims.rule.question == "spread" else _effects(sweep, claims)
    planned = [Comparison(*key) for key in measured]
    return decide(planned, measured, claims.rule, 0, Schedule((1,)), claims.level)


def contrasts_asked(sweep: Sweep, claims: Claims) -> tuple[pd.DataFrame, dict[Key, Weights]]:
    """The comparisons of `asked` as contrasts: the values [seed, arm], and the arms' weights."""
    if claims.rule.question == "spread":
        pairs = claims.rule.pairs(sweep.arms, sweep.baseline)
        far = pd.DataFrame(_distances(sweep, claims), columns=sweep.arms)
        return far, {(arm, against): {arm: 1.0, against: -1.0} for arm, against in pairs}
    return seed_table(sweep, claims.metric), {key: weights for key, (weights, _) in _weights(sweep).items()}


def _weights(sweep: Sweep) -> dict[Key, tuple[Weights, int]]:
    """Each arm's weight in each effect and interaction, and in how many differences of metrics it is."""
    found: dict[Key, tuple[Weights, int]] = {}
    for (factor, level, reference), weights in effect_weights(sweep).items():
        found[f"{factor}={level}", f"{factor}={reference}"] = weights, 1
    for a, b in crossed(sweep):
        for (level_a, level_b), weights in interaction_weights(sweep, a, b).items():
            found[f"{a}={level_a} x {b}={level_b}", "the sum of the two"] = weights, 2
    return found


def _effects(sweep: Sweep, claims: Claims) -> dict[Key, Measured]:
    table, lost = seed_table(sweep, claims.metric), lost_seeds(sweep)
    least, most = sweep.unit(claims.metric).limits
    worst = least if sweep.maximise else most
    return {
        key: Effect(
            table,
            weights,
            claims.rule,
            sweep.maximise,
            sum(len(lost.get(arm, ())) for arm in weights),
            worst if math.isfinite(worst) else math.nan,
            size * of_differences((least, most))[1],
        )
        for key, (weights, size) in _weights(sweep).items()
    }


def _spreads(sweep: Sweep, claims: Claims) -> dict[Key, Measured]:
    """Welch's t-test of the distances from the arm's median, which needs no normal values (Brown and Forsythe
    1974)."""
    far, rule = _distances(sweep, claims), claims.rule.deciding
    pairs = rule.pairs(sweep.arms, sweep.baseline)
    return {(arm, against): Pair(far[arm], far[against], rule, maximise=False) for arm, against in pairs}


def _distances(sweep: Sweep, claims: Claims) -> dict[str, dict[int, float]]:
    """Each arm's distances from its median by seed, scaled so that a normal arm's mean distance is its SD;
    NaN where a run was lost, which is the farthest of all."""
    far = {}
    for arm, values in values_of(sweep, claims.metric).items():
        middle = float(np.nanmedian(list(values.values()))) if values else math.nan
        far[arm] = {seed: abs(value - middle) * math.sqrt(math.pi / 2) for seed, value in values.items()}
    return far
