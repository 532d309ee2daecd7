"""The response surface of an arm's search: how good each draw is expected to be, given the results of all.

The best of many noisy results is good in part by luck. Draws with similar tuned values are similarly good, so
that the neighbours of a draw tell how much of its result is luck. The model is a Gaussian process over the
tuned values (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, sections 2.2 and 5.4):

    result = level of the arm + curve(tuned values) + noise
    cov(curve(x), curve(x')) = s^2 exp(-|x - x'|^2 / (2 length^2)),  var(noise) = s^2 noise

`x` is in the unit cube, on a logarithmic scale where the domain is; distances are in units of its diagonal.
Every arm has a level and a curve of its own; `length`, `noise` and `s` are the same for all arms of the
sweep. `length` and `noise` are those of the grid `LENGTHS` x `NOISES` with the highest marginal likelihood,
at the `s` that is likeliest for each; the level is nearly free, with variance `LEVEL` s^2.

A result far below the others says only that the top is elsewhere, and would make a smooth curve look rough.
So none counts as further below the arm's median than the best is above it: results are clipped at
2 x median - max.

benchmarks/tuning_luck.py simulates the choice by this model against that of the best result: with 16 draws an
arm it halves the claims that are false of the arms at their best settings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sweeps.space.values import Domain

LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)  # of the diagonal of the unit cube
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # variance of a result over that of the curve
LEVEL = 100.0  # variance of an arm's level over that of the curve


def unit_cube(draws: Sequence[Mapping[str, Any]], domains: Mapping[str, Domain]) -> np.ndarray:
    """[draw, tuned value]: the place of each value between the bounds of its domain, 0 to 1. No domain may be
    a choice, and each draw has a value for every domain."""
    columns = []
    for name, domain in domains.items():
        values = np.array([draw[name] for draw in draws], dtype=float)
        low, high = domain.bounds
        if domain.kind.startswith("log"):
            values, low, high = np.log(values), math.log(low), math.log(high)
        columns.append((values - low) / (high - low))
    return np.stack(columns, axis=1)


def expected_results(points: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each arm the posterior mean of its curve at each draw, [draw], less a constant of the arm.

    `points` holds for each arm its draws in the unit cube, [draw, tuned value]; `results` what they came to,
    [draw], finite, higher is better. Zeros if no arm's results differ.
    """
    known = [clipped(arm) for arm in results]
    if not any(arm.any() for arm in known):
        return known
    distances = [((arm[:, None] - arm) ** 2).mean(axis=2) for arm in points]  # squared, of the diagonal's
    size = sum(map(len, known))
    likeliest, expected = -math.inf, known
    for length, noise in itertools.product(LENGTHS, NOISES):
        curves = [np.exp(-0.5 * squared / length**2) for squared in distances]
        covariances = [curve + LEVEL + noise * np.eye(len(curve)) for curve in curves]
        weights = [np.linalg.solve(*arm) for arm in zip(covariances, known, strict=True)]
        scale = sum(float(arm @ weight) for arm, weight in zip(known, weights, strict=True)) / size
        spread = sum(float(np.linalg.slogdet(covariance)[1]) for covariance in covariances)
        likelihood = -0.5 * (size * math.log(scale) + spread)
        if likelihood > likeliest:
            likeliest = likelihood
            expected = [curve @ weight for curve, weight in zip(curves, weights, strict=True)]
    return expected


def clipped(results: np.ndarray) -> np.ndarray:
    """[..., draw]: an arm's results with the bad ones raised to 2 x median - max, less their mean. Equal ones
    are exactly 0."""
    median, best = np.median(results, axis=-1, keepdims=True), results.max(axis=-1, keepdims=True)
    known = np.maximum(results, 2 * median - best)
    differ = np.ptp(known, axis=-1, keepdims=True) > 0
    centred: np.ndarray = (known - known.mean(axis=-1, keepdims=True)) * differ
    return centred
