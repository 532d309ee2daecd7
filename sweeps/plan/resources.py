"""The cores and GPUs of a machine or cluster, of one trial, and the measured cost of a trial."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

_ROUNDING = 1e-9  # absorbs floating-point error, as in 1 / 0.1


class Allocation(NamedTuple):
    """The resources of one trial: cores, and GPUs or a share of one."""

    cpu: float
    gpu: float


@dataclass(frozen=True)
class ClusterResources:
    """The cores and GPUs that all trials share."""

    cpu: float
    gpu: float

    def concurrency(self, cpu: float, gpu: float) -> int:
        """How many trials can run at once if each takes `cpu` cores and `gpu` GPUs; 0 if not even one fits.

        A share of a GPU cannot be split over two GPUs.
        """
        limits = [int(self.cpu / cpu + _ROUNDING)]
        if 0 < gpu < 1:
            limits.append(int(1 / gpu + _ROUNDING) * int(self.gpu))
        elif gpu:
            limits.append(int(self.gpu / gpu + _ROUNDING))
        return min(limits)


@dataclass(frozen=True)
class Calibration:
    """The time and GPU memory of a few steps of a trial. None: could not be measured."""

    seconds_per_sample: float | None = None
    peak_bytes: int | None = None  # GPU memory, of the whole process
    total_bytes: int | None = None  # memory of that GPU


def local_resources(count_gpus: bool) -> ClusterResources:
    """The cores that this process may use, and the GPUs that torch sees; 0 GPUs, without importing torch, if
    they are not to be counted."""
    gpus = 0
    if count_gpus:
        import torch

        gpus = torch.cuda.device_count()
    return ClusterResources(len(os.sched_getaffinity(0)), gpus)
