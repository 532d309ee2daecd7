"""The verdicts of many sweeps at once: `analysis.inference.decision.decide`, with the sweeps in one array.

For simulations: of a plan's evidence before it runs, and of what the rules claim (benchmarks/coverage.py).
Their tests hold that the verdicts are those of `decide`, sweep by sweep, and of the controller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from analysis.inference.decision import BETTER, EQUIVALENT, NOT_SETTLED, WORSE, adjusted
from analysis.inference.intervals import ROUNDING, unequal_df
from analysis.inference.rule import Rule
from analysis.inference.samples import futile
from analysis.inference.sequential import Schedule

CODES = {NOT_SETTLED: 0, BETTER: 1, WORSE: -1, EQUIVALENT: 2}  # of the verdicts, in arrays


@dataclass(frozen=True)
class Found:
    """`verdicts` [sweeps, comparisons] by CODES; `stopped` for futility [sweeps, comparisons]; `looks`
    [sweeps, arms] is the number of looks up to which each arm's seeds are run."""

    verdicts: np.ndarray
    stopped: np.ndarray
    looks: np.ndarray


class Differences:
    """The t-test of each comparison; all are [sweeps, comparisons].

    `a` and `b` are the values of its two arms, [sweeps, seeds, comparisons]; NaN where there is none. `n` is
    the number of seeds of the arm that has fewer.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, rule: Rule) -> None:
        self.rule = rule
        with np.errstate(invalid="ignore", divide="ignore"):
            if rule.pairing == "paired":
                self.value, variance, self.n = _moments(a - b)
                self.error, self.df = np.sqrt(variance / self.n), self.n - 1.0
            else:
                mean_a, variance_a, n_a = _moments(a)
                mean_b, variance_b, n_b = _moments(b)
                parts = np.stack(np.broadcast_arrays(variance_a / n_a, variance_b / n_b))
                freedom = np.stack(np.broadcast_arrays(n_a - 1.0, n_b - 1.0))
                self.value, self.n = mean_a - mean_b, np.minimum(n_a, n_b)
                self.error, self.df = np.sqrt(parts.sum(axis=0)), unequal_df(parts, freedom)
        self.has_spread = self.error > ROUNDING * np.abs(self.value)

    @cached_property
    def p(self) -> np.ndarray:
        """Two-sided p; NaN below two values, or without spread."""
        with np.errstate(invalid="ignore", divide="ignore"):
            p = 2 * special.stdtr(self.df, -np.abs(self.value) / self.error)
        return np.where((self.n > 1) & self.has_spread, p, math.nan)

    @cached_property
    def equivalence_p(self) -> np.ndarray:
        """p of equivalence within the margin; NaN below two values."""
        margin = self.rule.margin or math.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            p = special.stdtr(self.df, (np.abs(self.value) - margin) / self.error)
        return np.where(self.n > 1, p, math.nan)

    def futile(self, schedule: Schedule, level: float) -> np.ndarray:
        """Which comparisons are stopped for futility, unless they are decided; `level` is Bonferroni's."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = futile(self.value, self.error, self.df, self.n, self.rule, schedule, level)
        return found & self.has_spread


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, variances and numbers of the finite values along axis 1."""
    is_known = ~np.isnan(values)
    n = is_known.sum(axis=1)
    mean = np.where(is_known, values, 0.0).sum(axis=1) / n
    away = np.where(is_known, values - mean[:, None], 0.0)
    return mean, (away**2).sum(axis=1) / (n - 1), n


def decide_sweeps(
    sweeps: int,
    comparisons: Sequence[tuple[int, int]],
    differences: Callable[[int, np.ndarray], Differences],
    rule: Rule,
    schedule: Schedule,
    level: float,
) -> Found:
    """All sweeps after their last look, as the controller plans it: who is decided runs no further seed.

    `comparisons` are pairs of arms, by their place; `differences(look, rows)` are those of the sweeps number
    `rows` at a look (0 is the first), for which higher is better.
    """
    first, second = np.array(comparisons).T
    shape, by_arm = (sweeps, len(comparisons)), (sweeps, int(np.max(comparisons)) + 1)
    verdicts, stopped = np.zeros(shape, int), np.zeros(shape, bool)
    p, p_equivalent = np.full(shape, math.nan), np.full(shape, math.nan)
    looks, is_beaten = np.zeros(by_arm, int), np.zeros(by_arm, bool)
    for look in range(len(schedule.looks)):
        is_open = (verdicts == 0) & ~stopped & ~is_beaten[:, first] & ~is_beaten[:, second]
        rows = np.flatnonzero(is_open.any(axis=1))
        if not len(rows):
            break
        is_open, seen = is_open[rows], differences(look, rows)
        for place, pair in enumerate(comparisons):
            looks[rows[is_open[:, place], None], pair] = look + 1
        p[rows] = np.where(is_open, schedule.p(look, seen.p), p[rows])
        others, equivalent = p[rows], np.zeros(is_open.shape, bool)
        if rule.margin is not None:
            at_look = schedule.one_sided_p(look, seen.equivalence_p)
            p_equivalent[rows] = np.where(is_open, at_look, p_equivalent[rows])
            others = np.fmax(p[rows], np.nan_to_num(p_equivalent[rows], nan=1.0))
            equivalent = is_open & (adjusted(p_equivalent[rows], others) <= level)
        differs = is_open & (adjusted(p[rows], others) <= level) & ~equivalent
        sign = np.where(seen.value > 0, CODES[BETTER], CODES[WORSE])
        verdicts[rows] += np.where(equivalent, CODES[EQUIVALENT], differs * sign)
        if look < len(schedule.looks) - 1:
            is_futile = seen.futile(schedule, level / len(comparisons))
            stopped[rows] |= is_open & ~equivalent & ~differs & is_futile
        if rule.question == "best":
            for (one, other), verdict in zip(comparisons, verdicts.T, strict=True):
                is_beaten[:, one] |= verdict == CODES[WORSE]
                is_beaten[:, other] |= verdict == CODES[BETTER]
    return Found(verdicts, stopped, looks)
