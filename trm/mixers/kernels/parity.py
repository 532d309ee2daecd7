"""How far the scan's compiled implementation on a device is from the recurrence in float64.

`worst_errors("cuda")` is the check to make on a GPU before its results are trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trm.mixers.kernels.scan import selective_scan

RESULTS = ("y", "dx", "ddt", "dA", "dB", "dC", "dD")


class Case(NamedTuple):
    """Shapes, and the interval of the step sizes; A is in [-15, -0.1]."""

    rows: int
    length: int
    channels: int
    states: int
    dt: tuple[float, float]


CASES = (
    Case(2, 1, 1, 1, (0.0, 1.0)),
    Case(3, 7, 5, 3, (0.0, 1.0)),
    Case(2, 97, 640, 16, (1e-3, 0.1)),  # the published model's, as it starts
    Case(2, 81, 33, 16, (1e-3, 20.0)),  # dt A down to -300
    Case(2, 81, 70, 64, (5.0, 20.0)),
    Case(1, 916, 130, 128, (1e-6, 0.1)),
    Case(1, 30, 9, 200, (0.0, 1.0)),
)


def worst_errors(device: str, dtype: torch.dtype, cases: Sequence[Case] = CASES) -> dict[str, float]:
    """The largest relative error (norm of the difference / norm) of y and each gradient over the cases, both
    directions of each. x, B, C and dy are in `dtype`, all else and the computation in float32.

    The expected values are computed in float64 on the CPU, from the same rounded inputs.
    """
    worst = dict.fromkeys(RESULTS, 0.0)
    for seed, case in enumerate(cases):
        inputs, dy = random_inputs(case, dtype, seed)
        for reverse in (False, True):
            expected = _computed([v.double() for v in inputs], dy.double(), reverse)
            found = _computed([v.to(device) for v in inputs], dy.to(device), reverse)
            for name, one, other in zip(RESULTS, found, expected, strict=True):
                error = (one.double().cpu() - other).norm() / other.norm().clamp_min(1e-30)
                worst[name] = max(worst[name], error.item() if error.isfinite() else torch.inf)
    return worst


def random_inputs(case: Case, dtype: torch.dtype, seed: int) -> tuple[list[Tensor], Tensor]:
    """x, dt, A, B, C, D of a case, and dy. A tenth of the step sizes is the least of the interval."""
    generator = torch.Generator().manual_seed(seed)
    rows, length, channels, states, (low, high) = case

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    dt = low + (high - low) * (uniform(rows, length, channels) - 0.1).clamp_min(0) / 0.9
    A = -0.1 - 14.9 * uniform(channels, states)
    x, dy = (normal(rows, length, channels).to(dtype) for _ in range(2))
    B, C = (normal(rows, length, states).to(dtype) for _ in range(2))
    return [x, dt, A, B, C, normal(channels)], dy


def _computed(inputs: Sequence[Tensor], dy: Tensor, reverse: bool) -> list[Tensor]:
    """y and the gradients of the inputs."""
    x, dt, A, B, C, D = inputs = [v.detach().requires_grad_() for v in inputs]
    with torch.enable_grad():
        y = selective_scan(x, dt, A, B, C, D, reverse)
        return [y.detach(), *torch.autograd.grad(y, inputs, dy)]
