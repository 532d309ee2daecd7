"""What there is to run trials on."""

from __future__ import annotations

import os
from dataclasses import dataclass

_ROUNDING = 1e-9  # of 1 / 0.1 and the like


@dataclass(frozen=True)
class Resources:
    """What there is to run on."""

    cpu: float
    gpu: float

    def concurrency(self, cpu: float, gpu: float) -> int:
        """Trials that fit side by side when each takes `cpu` cores and `gpu` GPUs; 0 where not even one does.

        A share of a GPU lies on one GPU.
        """
        fits = [int(self.cpu / cpu + _ROUNDING)]
        if 0 < gpu < 1:
            fits.append(int(1 / gpu + _ROUNDING) * int(self.gpu))
        elif gpu:
            fits.append(int(self.gpu / gpu + _ROUNDING))
        return min(fits)


@dataclass(frozen=True)
class Measured:
    """What a few steps of a trial took. None is what could not be measured."""

    seconds_per_sample: float | None = None
    peak_bytes: int | None = None  # of a GPU's memory, by the whole process
    total_bytes: int | None = None  # of that GPU


def local_resources(count_gpus: bool) -> Resources:
    """Cores that this process may use, and GPUs that torch sees. Loads torch only to count GPUs."""
    gpus = 0
    if count_gpus:
        import torch

        gpus = torch.cuda.device_count()
    return Resources(len(os.sched_getaffinity(0)), gpus)
