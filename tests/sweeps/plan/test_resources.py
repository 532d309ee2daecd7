from __future__ import annotations

import pytest

from sweeps.plan.resources import ClusterResources


@pytest.mark.parametrize(
    ("cpus", "gpus", "cpu", "gpu", "fit"),
    [
        (8, 2, 1, 0.4, 4),  # a share lies on one GPU: two on each
        (8, 2, 1, 0.6, 2),
        (16, 4, 1, 0.3, 12),
        (16, 1, 1, 0.1, 10),
        (3, 4, 1, 0.5, 3),  # too few cores
        (8, 2, 1, 2, 1),
        (8, 3, 1, 2, 1),
        (2, 0, 1, 0, 2),
        (2, 0, 0.5, 0, 4),
        (2, 0, 1, 1, 0),
        (1, 0, 2, 0, 0),
    ],
)
def test_how_many_trials_fit(cpus: float, gpus: float, cpu: float, gpu: float, fit: int) -> None:
    assert ClusterResources(cpus, gpus).concurrency(cpu, gpu) == fit
