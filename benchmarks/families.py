"""The verdicts of many sweeps at once (`analysis.inference.many`), in which values may be equal or missing.

Where the t statistics of all sweeps together do not give a p, the project's own `Pair` does. tests/benchmarks
holds that both come to the same verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.inference import many
from analysis.inference.decision import Comparison, decide
from analysis.inference.intervals import Limits
from analysis.inference.rule import Rule
from analysis.inference.samples import Pair
from analysis.inference.sequential import Schedule, schedule_of, seeds_at

NO_LIMITS: Limits = (-math.inf, math.inf)


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
class Found(many.Found):
    """As there; `seeds` that were run [sweeps, family + 1], the baseline's first."""

    seeds: np.ndarray

    @property
    def open(self) -> np.ndarray:
        """Which comparisons an extension asks about again."""
        return (self.verdicts == 0) & ~self.stopped


def decide_many(values: Values, rule: Rule, looks: Sequence[int], level: float) -> Found:
    """All sweeps after their last look. `looks` are numbers of seeds of an arm, the last one all of them."""
    sweeps, seeds, family = values.arms.shape
    seen = [values.first(n, seeds) for n in looks]

    def differences(look: int, rows: np.ndarray) -> Statistics:
        return Statistics(Values(seen[look].arms[rows], seen[look].baseline[rows], values.limits), rule)

    comparisons = [(place + 1, 0) for place in range(family)]
    schedule = schedule_of(looks, rule.anytime)
    found = many.decide_sweeps(sweeps, comparisons, differences, rule, schedule, level)
    run = np.array([0, *looks])[found.looks]
    run[:, 0] = np.array([0, *(each.baseline.shape[1] for each in seen)])[found.looks[:, 0]]
    return Found(**vars(found), seeds=run)


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


class Statistics(many.Differences):
    """The tests of `analysis.inference.samples.Pair` on each comparison; all are [sweeps, family]."""

    def __init__(self, values: Values, rule: Rule) -> None:
        self._values, self._both = values, (values.arms, values.baseline[:, :, None])
        super().__init__(*self._both, rule)
        missing = np.isnan(values.arms).any(axis=1) | np.isnan(values.baseline).any(axis=1)[:, None]
        self._lost = missing if rule.on_diverged == "worst" else np.zeros_like(missing)

    @cached_property
    def p(self) -> np.ndarray:
        p, worst, is_lost = super().p, self._values.limits[0], self._lost & (self.n > 1)
        if is_lost.any() and math.isfinite(worst):
            arms, baseline = (np.where(np.isnan(each), worst, each) for each in self._both)
            other = many.Differences(arms, baseline, self.rule)
            larger = np.where(np.sign(other.value) == np.sign(self.value), np.maximum(p, other.p), 1.0)
            p = np.where(is_lost, larger, p)
        one_by_one = np.isnan(p) & (self.n > 1)
        if not math.isfinite(worst):
            one_by_one |= is_lost
        for sweep, place in zip(*np.nonzero(one_by_one), strict=True):
            p[sweep, place] = self._pair(sweep, place).p
        return p

    @cached_property
    def equivalence_p(self) -> np.ndarray:
        p = super().equivalence_p
        for sweep, place in zip(*np.nonzero((self.n > 1) & ~self.has_spread), strict=True):
            p[sweep, place] = self._pair(sweep, place).equivalence_p
        return np.where(self._lost & (self.n > 1), 1.0, p)

    def futile(self, schedule: Schedule, level: float) -> np.ndarray:
        return super().futile(schedule, level) & ~self._lost

    def _pair(self, sweep: int, place: int) -> Pair:
        a, b = self._values.arms[sweep, :, place], self._values.baseline[sweep]
        return Pair(dict(enumerate(a)), dict(enumerate(b)), self.rule, True, self._values.limits)


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
