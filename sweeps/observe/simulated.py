"""How far the evidence will run, before it does: its rule is simulated on seeded normal values.

The decisions are those of `analysis.inference.decision`, of many sweeps at once. No trial diverges here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from analysis.inference.decision import adjusted
from analysis.inference.intervals import unequal_df
from analysis.inference.rule import Rule
from analysis.inference.samples import futile
from analysis.inference.sequential import schedule_of, seeds_at
from analysis.inference.significance import smallest_p
from sweeps.observe.cost import kept_draws
from sweeps.plan.model import Plan

DIFFERENCE = 2.0  # SDs over an arm's seeds
FEWEST_SWEEPS, MOST_SWEEPS = 4, 400  # that are simulated
MOST_NUMBERS = 200_000  # sweeps x comparisons^2, unless the fewest sweeps are more


@dataclass(frozen=True)
class Course:
    """A simulated evidence. `trials` has the new trials of each arm, for each sweep and look."""

    what: str
    trials: list[list[dict[str, int]]]

    @property
    def mean_trials(self) -> float:
        return statistics.fmean(sum(sum(new.values()) for new in looks) for looks in self.trials)


def simulated(plan: Plan, sd: float | None) -> list[Course]:
    """The evidence where no arm differs, and where all do; none without looks.

    `sd` is the SD of a difference between two trials, in the metric's units. Where it is None, margin and
    futility are left out, as nothing is known of their size.
    """
    rule, names = plan.rule, [arm.name for arm in plan.arms]
    if rule is None or not rule.looks or not plan.comparisons:
        return []
    if sd is None:
        rule = replace(rule, margin=None, futility=None)
    comparisons = [(names.index(arm), names.index(against)) for arm, against in plan.comparisons]
    seeds = seeds_at_looks(plan)
    sweeps = min(max(MOST_NUMBERS // len(comparisons) ** 2, FEWEST_SWEEPS), MOST_SWEEPS)
    noise = np.random.default_rng(0).standard_normal((sweeps, len(names), seeds[-1].max()))
    places = np.arange(len(names))
    apart = DIFFERENCE * (places if rule.question == "best" else np.minimum(places, 1))
    scale = 1.0 if sd is None else sd / math.sqrt(2)
    cases = {"no arm differs": 0 * apart, f"all differ by {DIFFERENCE:g} SD of an arm's seeds": apart}
    found = []
    for what, effects in cases.items():
        until = looks_run(scale * (noise + effects[:, None]), seeds, comparisons, rule)
        found.append(Course(what, [trials_at_looks(plan, run) for run in until]))
    return found


def trials_at_looks(plan: Plan, until: Sequence[int] | None = None) -> list[dict[str, int]]:
    """For each look the trials of each arm that are new there, if arm number k runs up to look `until[k]`;
    None: all run to the last."""
    kept = kept_draws(plan)
    more = np.diff(seeds_at_looks(plan), axis=0, prepend=0)
    return [
        {
            arm.name: kept[arm.name] * int(new)
            for place, (arm, new) in enumerate(zip(plan.arms, row, strict=True))
            if until is None or until[place] > look
        }
        for look, row in enumerate(more)
    ]


def seeds_at_looks(plan: Plan) -> np.ndarray:
    """[looks, arms]: the number of seeds of each arm at each look, or at the end."""
    numbers = [len(plan.evidence_seeds(arm.name)) for arm in plan.arms]
    looks = plan.rule.looks if plan.rule is not None and plan.rule.looks else (1,)
    return np.array([[seeds_at(number, look, looks[-1]) for number in numbers] for look in looks])


def looks_run(
    values: np.ndarray, seeds: np.ndarray, comparisons: Sequence[tuple[int, int]], rule: Rule
) -> np.ndarray:
    """[sweeps, arms]: the number of looks up to which each arm's seeds are run.

    `values` [sweeps, arms, seeds]; `seeds` [looks, arms] is the number of an arm's seeds at a look;
    `comparisons` are pairs of arms, by their place.
    """
    schedule, level = schedule_of(rule.looks, rule.anytime), rule.level(0)
    first, second = np.array(comparisons).T
    shape = (len(values), len(comparisons))
    p, p_equivalent = np.ones(shape), np.ones(shape)
    is_open, is_out = np.ones(shape, bool), np.zeros(values.shape[:2], bool)
    run = np.zeros(values.shape[:2], int)
    for look in range(len(rule.looks)):
        looked_at = is_open & ~is_out[:, first] & ~is_out[:, second]
        for place, (one, other) in enumerate(comparisons):
            run[looked_at[:, place], one] = run[looked_at[:, place], other] = look + 1
        found = _Differences.of(values, seeds[look], first, second, rule)
        p = np.where(looked_at, schedule.p(look, found.p(rule)), p)
        if rule.margin is None:
            closed = differs = looked_at & (adjusted(p, p) <= level)
        else:
            new = schedule.one_sided_p(look, found.equivalence_p(rule.margin))
            p_equivalent = np.where(looked_at, new, p_equivalent)
            others = np.maximum(p, p_equivalent)
            differs = looked_at & (adjusted(p, others) <= level)
            closed = differs | looked_at & (adjusted(p_equivalent, others) <= level)
        stopped = futile(
            found.value, found.error, found.df, found.n, rule, schedule, level / len(comparisons)
        )
        is_open &= ~(closed | looked_at & stopped)
        if rule.question == "best":
            for place, (one, other) in enumerate(comparisons):
                is_out[:, other] |= differs[:, place] & (found.value[:, place] > 0)
                is_out[:, one] |= differs[:, place] & (found.value[:, place] < 0)
    return run


@dataclass(frozen=True)
class _Differences:
    """[sweeps, comparisons]: each difference, its standard error and degrees of freedom; `n` [comparisons] is
    the number of seeds of the arm that has fewer."""

    value: np.ndarray
    error: np.ndarray
    df: np.ndarray
    n: np.ndarray

    @classmethod
    def of(
        cls, values: np.ndarray, seeds: np.ndarray, first: np.ndarray, second: np.ndarray, rule: Rule
    ) -> _Differences:
        n = np.minimum(seeds[first], seeds[second])
        if rule.pairing == "paired":
            gaps = values[:, first, : n[0]] - values[:, second, : n[0]]
            error = gaps.std(axis=2, ddof=1) / np.sqrt(n)
            return cls(gaps.mean(axis=2), error, np.broadcast_to(n - 1, error.shape), n)
        by_arm = [values[:, arm, :number] for arm, number in enumerate(seeds)]
        means = np.stack([each.mean(axis=1) for each in by_arm], axis=1)
        parts = np.stack([each.var(axis=1, ddof=1) / each.shape[1] for each in by_arm], axis=1)
        a, b = parts[:, first], parts[:, second]
        freedom = np.stack([seeds[first] - 1, seeds[second] - 1])[:, None, :]
        df = unequal_df(np.stack([a, b]), freedom)
        return cls(means[:, first] - means[:, second], np.sqrt(a + b), df, n)

    def p(self, rule: Rule) -> np.ndarray:
        """Two-sided p of the t-test; for the permutation test about its p, which has a smallest one."""
        p = 2 * special.stdtr(self.df, -np.abs(self.value) / self.error)
        return np.asarray(np.maximum(p, [smallest_p(int(n), rule.test, rule.pairing) for n in self.n]))

    def equivalence_p(self, margin: float) -> np.ndarray:
        return np.asarray(special.stdtr(self.df, (np.abs(self.value) - margin) / self.error))
