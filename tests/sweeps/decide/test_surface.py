"""The surface over an arm's search finds its optimum, and chooses better than the best result does."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.decide.surface import expected_results, unit_cube
from sweeps.plan.draws import known_draws
from sweeps.space.values import Domain

ONE = {"lr": Domain(loguniform=(1e-4, 1e-2))}
TWO = {**ONE, "layers": Domain(int=(1, 200))}


def regrets(domains: dict[str, Domain], sweeps: int = 200) -> tuple[float, float]:
    """Points that the best result and the surface lose, on average: 4 arms of 16 draws, seed SD 1.3, each
    with an optimum of its own, half a range from which 8 points are lost in each tuned value."""
    rng = np.random.default_rng(0)
    points = unit_cube(known_draws("sobol", domains, 16), domains)
    lost = []
    for _ in range(sweeps):
        optimum = rng.uniform(0.3, 0.7, size=(4, 1, len(domains)))
        truth = -8 * (((points - optimum) / 0.5) ** 2).sum(axis=2)
        results = rng.normal(truth, 1.3)
        expected = np.array(expected_results([points] * 4, list(results)))
        lost.append(
            [-np.take_along_axis(truth, by.argmax(axis=1)[:, None], 1).mean() for by in (results, expected)]
        )
    best, smoothed = np.mean(lost, axis=0)
    return float(best), float(smoothed)


@pytest.mark.parametrize(("domains", "share"), [(ONE, 0.5), (TWO, 0.75)], ids=["one", "two"])
def test_it_loses_less_than_the_best_result_does(domains: dict[str, Domain], share: float) -> None:
    best, smoothed = regrets(domains)
    assert smoothed < share * best


def test_values_are_placed_between_their_bounds_on_their_scale() -> None:
    domains = {**ONE, "layers": Domain(int=(1, 5)), "width": Domain(logint=(1, 16))}
    draws = [{"lr": 1e-4, "layers": 5, "width": 4}, {"lr": 1e-3, "layers": 2, "width": 16}]
    assert unit_cube(draws, domains) == pytest.approx(np.array([[0, 1, 0.5], [0.5, 0.25, 1]]))


def test_the_order_of_draws_and_arms_is_irrelevant() -> None:
    rng = np.random.default_rng(1)
    points, results = [rng.random((n, 2)) for n in (12, 16)], [rng.normal(size=n) for n in (12, 16)]
    one, other = expected_results(points, results)
    order = rng.permutation(12)
    swapped = expected_results([points[1], points[0][order]], [results[1], results[0][order]])
    assert swapped[0] == pytest.approx(other) and swapped[1] == pytest.approx(one[order])


def test_the_arms_share_what_they_tell_of_the_noise() -> None:
    """An arm's curve is smoothed more beside arms that are all noise than beside smooth ones."""
    rng = np.random.default_rng(2)
    points = np.linspace(0, 1, 16)[:, None]
    jagged = np.sin(6 * points[:, 0]) + 0.5 * rng.normal(size=16)
    smooth = [np.sin(6 * points[:, 0] + shift) for shift in range(5)]
    noise = [rng.normal(size=16) for _ in range(5)]
    rough = [
        float(np.abs(np.diff(expected_results([points] * 6, [jagged, *others])[0])).sum())
        for others in (smooth, noise)
    ]
    assert rough[1] < 0.8 * rough[0]


def test_a_failure_tells_only_that_the_top_is_elsewhere() -> None:
    points = np.linspace(0, 1, 16)[:, None]
    results = -8 * (points[:, 0] - 0.4) ** 2
    (fair,) = expected_results([points], [results])
    results[14:] = -1000.0
    (failed,) = expected_results([points], [results])
    assert fair.argmax() == failed.argmax() == 6


def test_only_differences_count() -> None:
    points, rng = np.linspace(0, 1, 16)[:, None], np.random.default_rng(3)
    results = rng.normal(size=16)
    (one,) = expected_results([points], [results])
    (other,) = expected_results([points], [100 + 5 * results])
    assert other == pytest.approx(5 * one)
    (equal,) = expected_results([points], [np.full(16, 0.1)])
    assert not equal.any()
