"""How far the evidence will run, before it does: its rule is simulated on seeded normal values.

No trial diverges here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis.inference.many import Differences, decide_sweeps
from analysis.inference.rule import Rule
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
    first, second = np.array(comparisons).T
    by_seed, number = values.swapaxes(1, 2), np.arange(values.shape[2])[:, None]

    def differences(look: int, rows: np.ndarray) -> Differences:
        seen = np.where(number < seeds[look], by_seed[rows], math.nan)
        return _Differences(seen[:, :, first], seen[:, :, second], rule)

    schedule = schedule_of(rule.looks, rule.anytime)
    return decide_sweeps(len(values), comparisons, differences, rule, schedule, rule.level(0)).looks


class _Differences(Differences):
    @cached_property
    def p(self) -> np.ndarray:
        """For the permutation test about its p, which has a smallest one; its n are those of all sweeps."""
        test, pairing = self.rule.test, self.rule.pairing
        return np.asarray(np.maximum(super().p, [smallest_p(int(n), test, pairing) for n in self.n[0]]))
