"""The values of two arms, and what a test says of their difference: p, interval, equivalence.

One method gives p and interval: the interval at a level leaves out 0 exactly where p is at most that level.
Runs that diverged or failed have no value. A claim must hold with them left out and with them at the worst
value, so that p is the larger of the two and the interval covers both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from analysis.inference.intervals import Estimate, Limits, cut_ends, difference_of, mean_of, of_differences
from analysis.inference.rule import Rule
from analysis.inference.sequential import Schedule
from analysis.inference.significance import Pairing, Test, sign_flip_p, smallest_p, two_sample_p

Ends = tuple[float, float]
Numbers = float | np.ndarray
NO_INTERVAL: Ends = (math.nan, math.nan)
FUTILE_LEVEL = 0.2  # of the interval that lies within what the sweep does not care about
FUTILE_FROM = 4  # seeds


@dataclass(frozen=True)
class Samples:
    """Values of two arms, all finite. Paired: `a` and `b` have the same seeds in the same order."""

    a: np.ndarray
    b: np.ndarray
    test: Test
    pairing: Pairing

    @property
    def n(self) -> int:
        """The size of the smaller sample; the number of pairs."""
        return min(len(self.a), len(self.b))

    @cached_property
    def diff(self) -> float:
        """mean(a) - mean(b); NaN if a sample is empty."""
        return float(self.a.mean() - self.b.mean()) if self.n else math.nan

    @cached_property
    def estimate(self) -> Estimate | None:
        """The difference with its standard error; None below two values, or if the values have no spread."""
        if self.n < 2:
            return None
        found = mean_of(self.a - self.b) if self.pairing == "paired" else difference_of(self.a, self.b)
        return found if found.has_spread else None

    @cached_property
    def p(self) -> float:
        """Two-sided p. The t statistic is undefined without spread: there the exact test decides. NaN below
        two values."""
        if self.n < 2:
            return math.nan
        if self.test == "t" and self.estimate is not None:
            return self.estimate.p
        return self._exact_p(0.0)

    def _exact_p(self, shift: float) -> float:
        """Two-sided p of the permutation test that the difference is `shift`."""
        if self.pairing == "paired":
            return sign_flip_p(self.a - self.b - shift)
        return two_sample_p(self.a - shift, self.b)

    def interval(self, level: float) -> Ends:
        """The differences that a test at `level` does not reject; NaN if there is no such interval."""
        if self.test == "t":
            return self.estimate.t_ends(1 - level) if self.estimate is not None else NO_INTERVAL
        if self.estimate is None or not level >= self.smallest_p:
            return NO_INTERVAL
        low, high = (self._end(step, level) for step in (-self.estimate.error, self.estimate.error))
        return (min(low, 0.0), max(high, 0.0)) if self.p > level else (low, high)  # whatever the rounding

    def _end(self, step: float, level: float) -> float:
        """A difference that the exact test does not reject, next to one that it does, from `diff` in the
        direction of `step`, a standard error. By bisection, to a thousandth of it."""
        kept, rejected, precision = self.diff, self.diff + step, 1e-3 * abs(step)
        while self._exact_p(rejected) > level:
            step *= 2
            kept, rejected = rejected, rejected + step
        while abs(rejected - kept) > precision:
            middle = (kept + rejected) / 2
            kept, rejected = (middle, rejected) if self._exact_p(middle) > level else (kept, middle)
        return kept

    def equivalence_p(self, margin: float) -> float:
        """p of two one-sided tests that the difference is outside +-margin (Schuirmann 1987)."""
        if self.n < 2:
            return math.nan
        if self.estimate is None:  # all values at the same distance: the smallest one-sided exact p, or 1
            pairs = 2.0**-self.n if self.pairing == "paired" else 1 / math.comb(2 * self.n, self.n)
            return pairs if abs(self.diff) < margin else 1.0
        return self.estimate.equivalence_p(margin)

    def equivalence_interval(self, level: float) -> Ends:
        """As `Estimate.equivalence_ends`; without spread from 0 to the difference."""
        if self.estimate is None:
            return min(self.diff, 0.0), max(self.diff, 0.0)
        return self.estimate.equivalence_ends(level)

    @property
    def smallest_p(self) -> float:
        """The smallest p that the test can give with so many values."""
        if self.test == "t" and self.estimate is not None:
            return 0.0
        return smallest_p(len(self.a), "permutation", self.pairing, len(self.b))


@dataclass(frozen=True)
class Pair:
    """Two arms at a look: each seed's value, NaN where the run diverged or failed.

    `limits` are the metric's smallest and largest possible value, infinite where they are not known.
    """

    a: Mapping[int, float]
    b: Mapping[int, float]
    rule: Rule
    maximise: bool = True
    limits: Limits = (-math.inf, math.inf)

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of `a` whose values count."""
        return self._seeds(self.a, self.b)

    @cached_property
    def other_seeds(self) -> list[int]:
        return self._seeds(self.b, self.a)

    def _seeds(self, mine: Mapping[int, float], other: Mapping[int, float]) -> list[int]:
        paired = self.rule.pairing == "paired"
        return [
            seed
            for seed, value in mine.items()
            if math.isfinite(value) and (not paired or math.isfinite(other.get(seed, math.nan)))
        ]

    @cached_property
    def lost(self) -> tuple[int, int]:
        """How many seeds of each arm have no value."""
        a, b = (sum(not math.isfinite(value) for value in arm.values()) for arm in (self.a, self.b))
        return a, b

    @cached_property
    def left_out(self) -> Samples:
        """Without the runs that have no value."""
        return self._samples(
            [self.a[seed] for seed in self.seeds], [self.b[seed] for seed in self.other_seeds]
        )

    @cached_property
    def at_worst(self) -> Samples | None:
        """With missing values at the worst one; None if none is missing or no limit is known."""
        worst = self.limits[0 if self.maximise else 1]
        if not self._counts_lost or not math.isfinite(worst):
            return None
        a, b = (
            {seed: value if math.isfinite(value) else worst for seed, value in arm.items()}
            for arm in (self.a, self.b)
        )
        if self.rule.pairing == "unpaired":
            return self._samples(list(a.values()), list(b.values()))
        both = [seed for seed in a if seed in b]
        return self._samples([a[seed] for seed in both], [b[seed] for seed in both])

    @property
    def _counts_lost(self) -> bool:
        return self.rule.on_diverged == "worst" and any(self.lost)

    def _samples(self, a: list[float], b: list[float]) -> Samples:
        return Samples(np.array(a, float), np.array(b, float), self.rule.test, self.rule.pairing)

    @property
    def diff(self) -> float:
        return self.left_out.diff

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many values can give; NaN below two of each."""
        return self.left_out.smallest_p if self.left_out.n > 1 else math.nan

    @property
    def note(self) -> str:
        """What became of the seeds without a value; '' if there are none."""
        found = []
        for number, arm, whose in zip(self.lost, (self.a, self.b), ("", " of the other arm"), strict=True):
            if number:
                found.append(f"{number} of {len(arm)} seeds{whose} diverged or failed")
        return "; ".join(found)

    @cached_property
    def p(self) -> float:
        """Two-sided p; with missing values the larger of the two, 1 if they point to different sides."""
        first = self.left_out.p
        if not self._counts_lost or math.isnan(first):
            return first
        p, sign = self._rank_test if self.at_worst is None else (self.at_worst.p, np.sign(self.at_worst.diff))
        return max(first, p) if sign == np.sign(self.diff) else 1.0

    @cached_property
    def _rank_test(self) -> tuple[float, float]:
        """p of the exact test on ranks, missing values the worst of all, and the sign of the difference."""
        from scipy import stats  # slow to import, and only a metric without limits needs it

        if self.rule.pairing == "unpaired":
            worst = -math.inf if self.maximise else math.inf
            values = [value for arm in (self.a, self.b) for value in arm.values()]
            ranks = stats.rankdata([worst if math.isnan(value) else value for value in values])
            a, b = ranks[: len(self.a)], ranks[len(self.a) :]
            return two_sample_p(a, b), float(np.sign(a.mean() - b.mean()))
        both = [seed for seed in self.a if seed in self.b]
        gaps = np.array([self._signed_gap(self.a[seed], self.b[seed]) for seed in both])
        signed = np.sign(gaps) * stats.rankdata(np.abs(gaps)) * (gaps != 0)
        return sign_flip_p(signed), float(np.sign(signed.sum()))

    def _signed_gap(self, a: float, b: float) -> float:
        """The difference, infinite where one of the two has no value, 0 where neither has."""
        missing = math.isnan(a), math.isnan(b)
        if not any(missing):
            return a - b
        worse = -math.inf if self.maximise else math.inf
        return 0.0 if all(missing) else worse if missing[0] else -worse

    def interval(self, level: float) -> Ends:
        """The interval of the difference at `level`, cut to what differences are possible; NaN where it holds
        all of them, or there is none."""
        ends = self.left_out.interval(level)
        if self._counts_lost and not math.isnan(ends[0]):
            if self.at_worst is not None:
                other = self.at_worst.interval(level)
                ends = (min(ends[0], other[0]), max(ends[1], other[1])) if other[0] == other[0] else other
            elif self.p > level and not ends[0] <= 0 <= ends[1]:
                return NO_INTERVAL  # ranks do not support what the values alone would show
        return self.cut(ends)

    def equivalence_interval(self, level: float) -> Ends:
        return self.cut(self.left_out.equivalence_interval(level))

    def cut(self, ends: Ends) -> Ends:
        return cut_ends(ends, of_differences(self.limits))

    @cached_property
    def equivalence_p(self) -> float:
        """p of equivalence within the margin; NaN without a margin, 1 while a run has no value."""
        if self.rule.margin is None:
            return math.nan
        return 1.0 if self._counts_lost else self.left_out.equivalence_p(self.rule.margin)

    def is_futile(self, schedule: Schedule, level: float) -> bool:
        """As `futile`; False while a run has no value, or without spread."""
        now = self.left_out.estimate
        if any(self.lost) or now is None:
            return False
        found = futile(now.value, now.error, now.df, self.left_out.n, self.rule, schedule, level)
        return bool(found)


def futile(
    value: Numbers, error: Numbers, df: Numbers, n: Numbers, rule: Rule, schedule: Schedule, level: float
) -> np.ndarray:
    """Whether more seeds are unlikely to settle comparisons: the 80% interval of the difference lies within
    +-futility, and equivalence is out of reach at the last look, if the values go on as they are.

    `value`, `error` and `df` are differences, their standard errors and degrees of freedom, `n` the seeds of
    the arm with fewer; numbers or arrays of one shape. `level` is that of a comparison at all looks together.
    Not binding: no level relies on stopping.
    """
    value, error, df, n = map(np.asarray, (value, error, df, n))
    if rule.futility is None:
        return np.zeros(value.shape, bool)
    half = special.stdtrit(df, 1 - FUTILE_LEVEL / 2) * error
    found = (n >= FUTILE_FROM) & (np.abs(value) + half <= rule.futility)
    if rule.margin is None:
        return np.asarray(found)
    last = schedule.looks[-1]
    t = (np.abs(value) - rule.margin) / (error * np.sqrt(n / last))
    p = special.stdtr(df * (last - 1) / (n - 1), t)
    return np.asarray(found & (p > schedule.one_sided_level(len(schedule.looks) - 1, level)))
