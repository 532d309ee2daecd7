"""Looks at growing samples: how small a p must be at each look, so that all looks together err at one level.

A group-sequential design (Jennison and Turnbull 2000, "Group sequential methods", chapter 7): the level is
spent look by look. A tenth of it is spent before the last look, in equal parts, the rest at the last one; as
with Haybittle (1971) and Peto (1976), an early look then decides large differences and costs little power.

The nominal levels are exact for the paired t-test. Under the null hypothesis its statistic after k + 1 pairs
depends on the past only through the statistic after k pairs: by Basu's theorem all past statistics are
independent of the sum of squares. So the distribution over looks is a Markov chain in one variable, which is
computed here on a grid. Other tests use the same levels. For Welch's test they are conservative where the two
SDs are alike, and as good as Welch's approximation elsewhere (benchmarks/coverage.py measures both).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import special

SPENT_EARLY = 0.1  # share of the level that is spent before the last look
FIRST = 3  # seeds at the first look
GROWTH = 1.2  # the least ratio from one look to the next
PRIOR = 4.0  # variance of the standardised effect that the e-process bets on
BINS, FARTHEST = 240, 9.0  # grid of |z|, where the two-sided p is 2 Phi(-|z|)
_EDGES = np.linspace(0.0, FARTHEST, BINS + 1)
_LEVELS = np.concatenate([[0.0], np.geomspace(1e-12, 1.0, 240)])


def seeds_at(seeds: int, look: int, last: int) -> int:
    """How many of an arm's seeds count at the look at `look` seeds, if the last look is at `last`. An arm
    with more seeds than the looks name, as the baseline may have, has its share of them."""
    return math.ceil(seeds * look / last - 1e-9)


def schedule_of(looks: Sequence[int], anytime: bool = False) -> Schedule:
    """The schedule of these looks: planned ones, or of an e-process."""
    return Anytime(tuple(looks)) if anytime else Schedule(tuple(looks))


def auto_looks(seeds: int) -> tuple[int, ...]:
    """The looks for this many seeds: () below four; else 3, 4, 5, 6, 8, 10, 12, 15, ... and `seeds` itself.

    The last look is at the number of seeds.
    """
    if seeds <= FIRST:
        return ()
    found, look = [], FIRST
    while look < seeds:
        found.append(look)
        look = max(look + 1, math.ceil(GROWTH * look)) if look >= 5 else look + 1
    return (*found, seeds)


@dataclass(frozen=True)
class Schedule:
    """The looks of a comparison, by the number of seeds at each: rising, the last is the planned number.

    With one look, levels and p are those of an ordinary test.
    """

    looks: tuple[int, ...]

    def level(self, look: int, alpha: float) -> float:
        """The two-sided p at or below which look number `look` (0 is the first) rejects, if all looks
        together are to reject a true null hypothesis with probability `alpha`."""
        return float(np.interp(alpha, _LEVELS, self._table[look])) if len(self.looks) > 1 else alpha

    def p(self, look: int, p: np.ndarray | float) -> np.ndarray:
        """The repeated p of each two-sided p at a look: the smallest `alpha` at which that look would
        reject. NaN stays NaN."""
        p = np.asarray(p, dtype=float)
        return np.interp(p, self._table[look], _LEVELS, right=1.0) if len(self.looks) > 1 else p

    def one_sided_level(self, look: int, alpha: float) -> float:
        """As `level`, for a one-sided p: the two sides of a two-sided test share its level equally."""
        return self.level(look, min(2 * alpha, 1.0)) / 2

    def one_sided_p(self, look: int, p: np.ndarray | float) -> np.ndarray:
        """As `p`, for one-sided p."""
        p = np.asarray(p, dtype=float)
        return self.p(look, np.minimum(2 * p, 1.0)) / 2 if len(self.looks) > 1 else p

    @cached_property
    def _table(self) -> np.ndarray:
        return _nominal_levels(self.looks)


@dataclass(frozen=True)
class Anytime(Schedule):
    """Looks at any number of pairs, for as long as one likes: an e-process for paired differences.

    e after n pairs is the Bayes factor of an effect, in SDs normal around 0 with variance PRIOR, against
    none, with the right-Haar prior on the SD (Rouder et al. 2009, equation 1; anytime-valid by invariance:
    Lai 1976; Perez-Ortiz et al. 2024, "E-statistics, group invariance and anytime-valid testing"). If there
    is no difference, it ever reaches 1 / alpha with probability at most alpha. It is a function of the t
    statistic, and so of the paired t-test's p. `looks` are numbers of pairs; the last one binds nobody.
    """

    def p(self, look: int, p: np.ndarray | float) -> np.ndarray:
        n, p = self.looks[look], np.asarray(p, dtype=float)
        t = np.minimum(
            np.abs(special.stdtrit(n - 1, np.maximum(p, 1e-300) / 2)), 1e100
        )  # with a finite square
        square, shrunk = t**2 / (n - 1), 1 + n * PRIOR
        log_e = -0.5 * math.log(shrunk) + n / 2 * (np.log1p(square) - np.log1p(square / shrunk))
        return np.minimum(np.exp(-log_e), 1.0)

    def level(self, look: int, alpha: float) -> float:
        low, high = -700.0, 0.0  # of log p; p falls with the nominal p
        if float(self.p(look, math.exp(low))) > alpha:
            return 0.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if float(self.p(look, math.exp(middle))) <= alpha else (low, middle)
        return math.exp(low)

    def one_sided_level(self, look: int, alpha: float) -> float:
        return self.level(look, alpha) / 2

    def one_sided_p(self, look: int, p: np.ndarray | float) -> np.ndarray:
        return self.p(look, np.minimum(2 * np.asarray(p, dtype=float), 1.0))


@lru_cache(maxsize=32)
def _nominal_levels(looks: tuple[int, ...]) -> np.ndarray:
    """[looks, _LEVELS]: the nominal level of each look, for each overall level."""
    early = len(looks) - 1
    shares = [SPENT_EARLY * (place + 1) / early for place in range(early)] + [1.0]
    table = np.zeros((len(looks), len(_LEVELS)))
    mass = np.tile(np.diff(2 * special.ndtr(_EDGES) - 1), (len(_LEVELS), 1))  # not rejected yet, by |z|
    spent = np.zeros(len(_LEVELS))
    for place, (n, share) in enumerate(zip(looks, shares, strict=True)):
        for k in range(looks[place - 1] if place else n, n):
            mass = mass @ _one_more(k)
        bounds = _bounds(mass, share * _LEVELS - spent)
        if not place:
            bounds = -special.ndtri(share * _LEVELS / 2)  # the first p is uniform: no grid is needed
        table[place] = 2 * special.ndtr(-bounds)
        mass = _below(mass, bounds)
        spent = share * _LEVELS
    return np.maximum.accumulate(table, axis=1)


def _bounds(mass: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each row of `mass` the |z| beyond which `wanted` of it lies, log-linear inside a bin."""
    beyond = np.concatenate([np.cumsum(mass[:, ::-1], axis=1)[:, ::-1], np.zeros((len(mass), 1))], axis=1)
    found = np.full(len(mass), math.inf)
    for row, (survival, target) in enumerate(zip(beyond, wanted, strict=True)):
        if target <= 0:
            continue
        place = int(np.searchsorted(-survival, -target))  # the first edge with no more than `target` beyond
        if place == 0:
            found[row] = 0.0
        elif survival[place] > 0:
            above, below = math.log(survival[place - 1]), math.log(survival[place])
            inside = (above - math.log(target)) / (above - below)
            found[row] = _EDGES[place - 1] + inside * _EDGES[1]
        else:
            found[row] = _EDGES[place - 1] + (1 - target / survival[place - 1]) * _EDGES[1]
    return found


def _below(mass: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """`mass` without what lies beyond each row's bound."""
    tails = special.ndtr(-_EDGES)
    kept = (tails[None, :-1] - special.ndtr(-bounds)[:, None]) / (tails[:-1] - tails[1:])
    return mass * np.clip(kept, 0.0, 1.0)


@lru_cache(maxsize=256)
def _one_more(k: int) -> np.ndarray:
    """[BINS, BINS]: where |z| of the paired t-test goes from k pairs to k + 1, under the null hypothesis.

    With S the sum and U the sum of squares of k pairs, u = S / sqrt(U) is a function of t. The next pair x
    has x / sqrt(U) = tan(phi) with sqrt(k) tan(phi) ~ t with k degrees of freedom, and the next u is
    sqrt(1 + u^2) sin(phi + atan u).
    """
    middles = (_EDGES[1:] + _EDGES[:-1]) / 2
    u, ends = _u(middles, k)[:, None], _u(_EDGES, k + 1)[None, :]

    def share(v: np.ndarray) -> np.ndarray:
        """P(the next u is at most v)."""
        angle = np.arcsin(np.clip(v / np.sqrt(1 + u**2), -1.0, 1.0))
        low, high = angle - np.arctan(u), math.pi - angle - np.arctan(u)
        return _phi(low, k) + np.where(high < math.pi / 2, 1 - _phi(high, k), 0.0)

    steps: np.ndarray = np.maximum(np.diff(share(ends) - share(-ends), axis=1), 0.0)
    return steps


def _phi(angle: np.ndarray, k: int) -> np.ndarray:
    """P(phi is at most `angle`)."""
    inside = np.clip(angle, -math.pi / 2, math.pi / 2)
    found = special.stdtr(k, math.sqrt(k) * np.tan(inside))
    return np.where(angle <= -math.pi / 2, 0.0, np.where(angle >= math.pi / 2, 1.0, found))


def _u(z: np.ndarray, k: int) -> np.ndarray:
    """|S| / sqrt(U) of k pairs whose t-test has the two-sided p 2 Phi(-z)."""
    t = -special.stdtrit(k - 1, special.ndtr(-z))
    return np.asarray(math.sqrt(k) * t / np.sqrt(k - 1 + t**2))
