"""The stopping variant of ASHA (arXiv 1810.05934) that Ray Tune has, but for three things: a rung's best
ceil(n / reduction_factor) go on, so that a tie stops nobody; a value that is not finite is the worst there
is; and what is compared is the value at the rung, whenever a trial arrives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from sweeps.schedulers.base import Pool, Scheduler


class Asha(Scheduler):
    """Rungs at grace_period x reduction_factor^k; of those that came to a rung the best 1/factor go on."""

    kind: Literal["asha"] = "asha"
    reduction_factor: float = Field(3, gt=1)

    def rungs(self) -> list[float]:
        rungs, rung = [], self.grace_period
        while rung < self.max_t:
            rungs.append(rung)
            rung *= self.reduction_factor
        return rungs

    def number_of_rungs(self) -> float:
        return math.log(self.max_t / self.grace_period) / math.log(self.reduction_factor)

    def needed(self) -> float:
        return next(n for n in itertools.count(2) if math.ceil(n / self.reduction_factor) < n)

    def judge(self, pool: Pool, rung: float, member: str) -> tuple[float | None, Iterable[str]]:
        there = pool.values[rung]
        if len(there) == 1:
            return None, []
        cutoff = there.best(math.ceil(len(there) / self.reduction_factor))
        return cutoff, [member] if there[member] < cutoff else []
