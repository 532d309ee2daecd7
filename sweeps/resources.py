"""What there is to run trials on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """What there is to run on."""

    cpu: float
    gpu: float

    def concurrency(self, cpu: float, gpu: float) -> int:
        """Trials that fit side by side when each takes `cpu` cores and `gpu` GPUs."""
        fits = [int(have / need + 1e-9) for have, need in ((self.cpu, cpu), (self.gpu, gpu)) if need > 0]
        return min(fits, default=1)


def local_resources() -> Resources:
    """Cores that this process may use, and GPUs that torch sees."""
    torch = sys.modules.get("torch")
    return Resources(len(os.sched_getaffinity(0)), torch.cuda.device_count() if torch else 0)
