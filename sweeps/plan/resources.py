"""What there is to run trials on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

_ROUNDING = 1e-9  # of 1 / 0.1 and the like


class Allocation(NamedTuple):
    """What one trial is given: cores, and GPUs or a share of one."""

    cpu: float
    gpu: float


@dataclass(frozen=True)
class ClusterResources:
    """The cores and GPUs that all trials share."""

    cpu: float
    gpu: float

    def concurrency(self, cpu: float, gpu: float) -> int:
        """Trials that fit side by side when each takes `cpu` cores and `gpu` GPUs; 0 where not even one does.

        A share of a GPU lies on one GPU.
        """
        concurrency_by_arm = [int(self.cpu / cpu + _ROUNDING)]
        if 0 < gpu < 1:
            concurrency_by_arm.append(int(1 / gpu + _ROUNDING) * int(self.gpu))
        elif gpu:
            concurrency_by_arm.append(int(self.gpu / gpu + _ROUNDING))
        return min(concurrency_by_arm)


@dataclass(frozen=True)
class Calibration:
    """What a few steps of a trial took. None is what could not be measured."""

    seconds_per_sample: float | None = None
    peak_bytes: int | None = None  # of a GPU's memory, by the whole process
    total_bytes: int | None = None  # of that GPU


def local_resources(count_gpus: bool) -> ClusterResources:
    """Cores that this process may use, and GPUs that torch sees. Loads torch only to count GPUs."""
    gpus = 0
    if count_gpus:
        import torch

        gpus = torch.cuda.device_count()
    return ClusterResources(len(os.sched_getaffinity(0)), gpus)
