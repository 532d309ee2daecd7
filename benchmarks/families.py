"""The verdicts of many sweeps at once: `analysis.inference.decision.decide`, with the sweeps in one array.

The schedule of looks and the adjusted p are the project's own functions. The t statistics are computed here
for all sweeps together; where values are equal, or a seed is missing and no limit is known, the project's own
`Pair` gives the p. tests/benchmarks holds that both come to the same verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from analysis.inference.decision import BETTER, EQUIVALENT, NOT_SETTLED, WORSE, Comparison, adjusted, decide
from analysis.inference.intervals import ROUNDING, Limits, unequal_df
from analysis.inference.rule import Rule
from analysis.inference.samples import Pair, futile
from analysis.inference.sequential import Schedule, schedule_of, seeds_at

NO_LIMITS: Limits = (-math.inf, math.inf)
CODES = {NOT_SETTLED: 0, BETTER: 1, WORSE: -1, EQUIVALENT: 2}  # of the verdicts, in arrays


@dataclass(frozen=True)
class Values:
    """Values of a stage's seeds, the same number for every arm; NaN where a run diverged.

    `arms` is [sweeps, seeds, family], `baseline` [sweeps, seeds of the baseline]; higher is better.
    """

    arms: np.ndarray
    baseline: np.ndarray
    limits: Limits = NO_LIMITS

    def followed_by(self, more: Values) -> Values:
        """These seeds and then those of `more`."""
        arms, baseline = ((self.arms, more.arms), (self.baseline, more.baseline))
        return Values(np.concatenate(arms, axis=1), np.concatenate(baseline, axis=1), self.limits)

    def first(self, look: int, last: int) -> Values:
        """The seeds up to the look at `look` of `last` seeds."""
        arms, baseline = (seeds_at(each.shape[1], look, last) for each in (self.arms, self.baseline))
        return Values(self.arms[:, :arms], self.baseline[:, :baseline], self.limits)


@dataclass(frozen=True)
class Found:
    """`verdicts` [sweeps, family] by CODES; `stopped` for futility [sweeps, family]; `seeds` that were run
    [sweeps, family + 1], the baseline's first."""

    verdicts: np.ndarray
    stopped: np.ndarray
    seeds: np.ndarray

    @property
    def open(self) -> np.ndarray:
        """Which comparisons an extension asks about again."""
        return (self.verdicts == 0) & ~self.stopped


def decide_many(values: Values, rule: Rule, looks: Sequence[int], level: float) -> Found:
    """All sweeps after their last look, as the controller plans it: who is decided runs no further seed.
    `looks` are numbers of seeds of an arm, the last one all of them."""
    sweeps, seeds, family = values.arms.shape
    schedule = schedule_of(looks, rule.anytime)
    verdicts, stopped = np.zeros((sweeps, family), int), np.zeros((sweeps, family), bool)
    p, p_equivalent = np.full((sweeps, family), math.nan), np.full((sweeps, family), math.nan)
    run = np.zeros((sweeps, family + 1), int)
    for look, n in enumerate(looks):
        rows = np.flatnonzero(((verdicts == 0) & ~stopped).any(axis=1))
        now = values.first(n, seeds)
        seen = Statistics(Values(now.arms[rows], now.baseline[rows], values.limits), rule)
        is_open = (verdicts[rows] == 0) & ~stopped[rows]
        run[rows, 1:] += is_open * (n - run[rows, 1:])
        run[rows, 0] = now.baseline.shape[1]
        p[rows] = np.where(is_open, schedule.p(look, seen.p), p[rows])
        others = p[rows]
        equivalent = np.zeros(is_open.shape, bool)
        if rule.margin is not None:
            at_look = schedule.one_sided_p(look, seen.equivalence_p)
            p_equivalent[rows] = np.where(is_open, at_look, p_equivalent[rows])
            others = np.fmax(p[rows], np.nan_to_num(p_equivalent[rows], nan=1.0))
            equivalent = is_open & (adjusted(p_equivalent[rows], others) <= level)
        differs = is_open & (adjusted(p[rows], others) <= level) & ~equivalent
        sign = np.where(seen.diff > 0, CODES[BETTER], CODES[WORSE])
        verdicts[rows] += np.where(equivalent, CODES[EQUIVALENT], differs * sign)
        if look < len(looks) - 1:
            stopped[rows] |= is_open & ~equivalent & ~differs & seen.futile(schedule, level / family)
    return Found(verdicts, stopped, run)


def decide_open(
    values: Values, is_open: np.ndarray, rule: Rule, level: float, looks: Sequence[int] = ()
) -> np.ndarray:
    """An extension: the verdicts [sweeps, family] of the open comparisons from its seeds, at one look after
    the last unless `looks` are given. The family of a sweep is what is open in it; the others get 0. An
    e-process goes on at what is open's share of the plan's `level`."""
    verdicts = np.zeros(is_open.shape, int)
    sizes, order = is_open.sum(axis=1), np.argsort(~is_open, axis=1, kind="stable")
    for size in range(1, is_open.shape[1] + 1):
        rows = np.flatnonzero(sizes == size)
        chosen = order[rows, :size]
        arms = np.take_along_axis(values.arms[rows], chosen[:, None, :], axis=2)
        part = Values(arms, values.baseline[rows], values.limits)
        share = size / is_open.shape[1] if rule.anytime else 1.0
        found = decide_many(part, rule, looks or [arms.shape[1]], level * share).verdicts
        verdicts[rows[:, None], chosen] = found
    return verdicts


class Statistics:
    """The tests of `analysis.inference.samples.Pair` on each comparison; all are [sweeps, family]."""

    def __init__(self, values: Values, rule: Rule) -> None:
        self._values = values
        self._rule = rule
        missing = np.isnan(values.arms).any(axis=1) | np.isnan(values.baseline).any(axis=1)[:, None]
        self._lost = missing if rule.on_diverged == "worst" else np.zeros_like(missing)
        self.diff, self._error, self._df, self._n = self._estimates(values)

    def _estimates(self, values: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The differences, their standard errors, degrees of freedom, sizes of the smaller samples."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self._rule.pairing == "paired":
                diff, variance, n = _moments(values.arms - values.baseline[:, :, None])
                return diff, np.sqrt(variance / n), n - 1.0, n
            mean, variance, n = _moments(values.arms)
            mean_b, variance_b, n_b = _moments(values.baseline[:, :, None])
            a, b = variance / n, variance_b / n_b
            freedom = np.stack(np.broadcast_arrays(n - 1.0, n_b - 1.0))
            df = unequal_df(np.stack(np.broadcast_arrays(a, b)), freedom)
            return mean - mean_b, np.sqrt(a + b), df, np.minimum(n, n_b)

    @cached_property
    def p(self) -> np.ndarray:
        p = _two_sided(self.diff, self._error, self._df, self._n)
        has_limit = math.isfinite(self._values.limits[0])
        if self._lost.any() and has_limit:
            worst = self._values.limits[0]
            filled = Values(
                np.where(np.isnan(self._values.arms), worst, self._values.arms),
                np.where(np.isnan(self._values.baseline), worst, self._values.baseline),
            )
            diff, error, df, n = self._estimates(filled)
            other = _two_sided(diff, error, df, n)
            larger = np.where(np.sign(diff) == np.sign(self.diff), np.maximum(p, other), 1.0)
            p = np.where(self._lost & (self._n > 1), larger, p)
        one_by_one = np.isnan(p) & (self._n > 1)
        if not has_limit:
            one_by_one |= self._lost & (self._n > 1)
        for sweep, place in zip(*np.nonzero(one_by_one), strict=True):
            p[sweep, place] = self._pair(sweep, place).p
        return p

    @cached_property
    def equivalence_p(self) -> np.ndarray:
        margin = self._rule.margin or math.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            p = special.stdtr(self._df, (np.abs(self.diff) - margin) / self._error)
        has_spread = self._error > ROUNDING * np.abs(self.diff)
        for sweep, place in zip(*np.nonzero((self._n > 1) & ~has_spread), strict=True):
            p[sweep, place] = self._pair(sweep, place).equivalence_p
        return np.where(self._n > 1, np.where(self._lost, 1.0, p), math.nan)

    def futile(self, schedule: Schedule, level: float) -> np.ndarray:
        """Which comparisons are stopped for futility, unless they are decided; `level` is Bonferroni's."""
        has_spread = self._error > ROUNDING * np.abs(self.diff)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = futile(self.diff, self._error, self._df, self._n, self._rule, schedule, level)
        return found & ~self._lost & has_spread

    def _pair(self, sweep: int, place: int) -> Pair:
        a, b = self._values.arms[sweep, :, place], self._values.baseline[sweep]
        return Pair(dict(enumerate(a)), dict(enumerate(b)), self._rule, True, self._values.limits)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, variances and numbers of the finite values along axis 1."""
    is_known = ~np.isnan(values)
    n = is_known.sum(axis=1)
    mean = np.where(is_known, values, 0.0).sum(axis=1) / n
    away = np.where(is_known, values - mean[:, None], 0.0)
    return mean, (away**2).sum(axis=1) / (n - 1), n


def _two_sided(diff: np.ndarray, error: np.ndarray, df: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Two-sided p of t; NaN below two values, or without spread."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * special.stdtr(df, -np.abs(diff) / error)
    return np.where((n > 1) & (error > ROUNDING * np.abs(diff)), p, math.nan)


# One sweep, by the project's own code


def decide_one(
    values: Values, rule: Rule, looks: Sequence[int], level: float
) -> tuple[list[Comparison], np.ndarray]:
    """A single sweep ([1, ...] in `values`) by `decide` itself: its comparisons and the seeds of each arm."""
    schedule, family, total = schedule_of(looks, rule.anytime), values.arms.shape[2], values.arms.shape[1]
    rows = [Comparison(f"arm{place + 1}", "arm0") for place in range(family)]
    run = np.zeros(family + 1, int)
    for look, n in enumerate(looks):
        is_open = np.array([not row.closed for row in rows])
        if not is_open.any():
            break
        now = values.first(n, total)
        b: Mapping[int, float] = dict(enumerate(now.baseline[0]))
        pairs = {
            row.arm_and_against: Pair(dict(enumerate(now.arms[0, :, place])), b, rule, True, values.limits)
            for place, row in enumerate(rows)
        }
        rows = decide(rows, pairs, rule, look, schedule, level)
        run[1:][is_open] = n
        run[0] = now.baseline.shape[1]
    return rows, run
