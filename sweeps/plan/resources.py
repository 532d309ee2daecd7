"""The cores and GPUs of a machine or cluster, of one trial, and the measured cost of a trial."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_ROUNDING = 1e-9  # absorbs floating-point error, as in 1 / 0.1


class Allocation(NamedTuple):
    """The resources of one trial: cores, and GPUs or a share of one."""

    cpu: float
    gpu: float


class Node(NamedTuple):
    """The cores and GPUs of one machine; on a cluster also the id that Ray gave it, and its name."""

    cpu: float
    gpu: float
    id: str = ""
    name: str = ""

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
class ClusterResources:
    """The nodes that all trials share. A trial runs on one of them."""

    nodes: tuple[Node, ...]

    @property
    def cpu(self) -> float:
        return sum(node.cpu for node in self.nodes)

    @property
    def gpu(self) -> float:
        return sum(node.gpu for node in self.nodes)

    def concurrency(self, cpu: float, gpu: float) -> int:
        """How many trials can run at once if each takes `cpu` cores and `gpu` GPUs; 0 if not even one fits
        on any node."""
        return sum(node.concurrency(cpu, gpu) for node in self.nodes)

    def without(self, excluded: Collection[str]) -> ClusterResources:
        """The nodes whose ids are not among `excluded`."""
        return ClusterResources(tuple(node for node in self.nodes if node.id not in excluded))

    def only(self, ids: Collection[str]) -> ClusterResources:
        """The nodes with these ids."""
        return ClusterResources(tuple(node for node in self.nodes if node.id in ids))


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
    return ClusterResources((Node(usable_cores(), gpus),))


def usable_cores() -> int:
    """The cores that this process may use: those that its affinity allows, or fewer by a container's
    quota."""
    has_affinity = hasattr(os, "sched_getaffinity")  # macOS has none
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, int(min(cores, cpu_quota())))


def cpu_quota(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """The cores that the process's control groups grant it; infinite without a limit.

    `mounted` is where control groups are mounted, `own` the file that names those of this process.
    """
    lines = own.read_text().splitlines() if own.exists() else []
    paths = [path for _, _, path in (line.split(":", 2) for line in lines)]
    groups = {Path("/"), *(parent for path in paths for parent in (Path(path), *Path(path).parents))}
    quotas = [math.inf]
    for group in groups:
        below = group.relative_to("/")
        quotas.append(_quota(mounted / below / "cpu.max"))
        for controller in ("cpu", "cpu,cpuacct"):  # version 1
            folder = mounted / controller / below
            quotas.append(_quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"))
    return min(quotas)


def _quota(*files: Path) -> float:
    """Microseconds of a core per period, over the period; infinite if the files are not there or set no
    limit."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # ValueError: "max"
        return math.inf
