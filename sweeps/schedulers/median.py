"""The median rule of Vizier (Golovin et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar, Literal

from sweeps.schedulers.base import Pool, Scheduler


class Median(Scheduler):
    """At each multiple of grace_period a member stops whose best value so far is below the median of the
    others' running means. Needs three others to judge by."""

    kind: Literal["median"] = "median"
    others: ClassVar[int] = 3

    def rungs(self) -> list[float]:
        step = self.grace_period
        return [step * k for k in range(1, math.ceil(self.max_t / step))]

    def number_of_rungs(self) -> float:
        return self.max_t / self.grace_period

    def needed(self) -> float:
        return self.others + 1

    def judge(self, pool: Pool, rung: float, member: str) -> tuple[float | None, Iterable[str]]:
        means = pool.means[rung]
        if len(means) <= self.others:
            return None, []
        cutoff = means.median_of_others(member)
        return cutoff, [member] if max(pool.history(member, rung)) < cutoff else []
