"""False claims on real seed noise: reruns of one config, split at random into arms that are all alike.

A rule is a function from values [seeds, arms], the baseline first, to a claim for each other arm. Adding one
is a line in RULES.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from analysis.inference.intervals import ALPHA, difference_of, mean_of
from analysis.inference.significance import holm, sign_flip_p, two_sample_p
from benchmarks.curves import Task

Rule = Callable[[np.ndarray], np.ndarray]
SEEDS, ARMS = (4, 5, 8), (2, 4, 10)


def by(test: Callable[[np.ndarray, np.ndarray], float]) -> Rule:
    """Claims at ALPHA by this test of an arm against the baseline, Holm-adjusted."""

    def rule(values: np.ndarray) -> np.ndarray:
        p = [test(column, values[:, 0]) for column in values[:, 1:].T]
        return holm(p, family=len(p)) <= ALPHA

    return rule


RULES: dict[str, Rule] = {
    "paired t-test": by(lambda a, b: mean_of(a - b).p),
    "Welch t-test": by(lambda a, b: difference_of(a, b).p),
    "sign-flip test": by(lambda a, b: sign_flip_p(a - b)),
    "two-sample permutation test": by(two_sample_p),
}


def groups_of(tasks: list[Task]) -> list[np.ndarray]:
    """The final values of each config's runs, where none diverged."""
    groups = [
        task.curves[arm, config, known, -1]
        for task in tasks
        for arm, configs in enumerate(task.known)
        for config, known in enumerate(configs)
    ]
    return [group for group in groups if np.isfinite(group).all()]


def false_claims(
    groups: list[np.ndarray], splits: int, seed: int, rules: Mapping[str, Rule] = RULES
) -> Iterator[dict[str, Any]]:
    """A row for each number of seeds and of arms for which a group is large enough, and each rule. `rates`
    has for each such group the share of its splits in which anything is claimed."""
    for n, arms in itertools.product(SEEDS, ARMS):
        rates: dict[str, list[float]] = {name: [] for name in rules}
        for index, group in enumerate(group for group in groups if len(group) >= n * arms):
            rng = np.random.default_rng((seed, n, arms, index))
            tables = [rng.choice(group, (n, arms), replace=False) for _ in range(splits)]
            for name, rule in rules.items():
                rates[name].append(float(np.mean([rule(table).any() for table in tables])))
        for name, found in rates.items():
            if found:
                yield {"seeds": n, "arms": arms, "rule": name, "rates": found}
