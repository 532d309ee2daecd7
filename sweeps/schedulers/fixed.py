"""One early look: the baseline that any cleverer rule must beat (Egele et al., arXiv 2307.15422)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from sweeps.schedulers.base import Pool, Scheduler


class Fixed(Scheduler):
    """One early point, grace_period: whoever has `keep` better ones beside it there stops, early arrivals
    too."""

    kind: Literal["fixed"] = "fixed"
    keep: int = Field(1, ge=1)

    def rungs(self) -> list[float]:
        return [self.grace_period]

    def needed(self) -> float:
        return self.keep + 1

    def judge(self, pool: Pool, rung: float, member: str) -> tuple[float | None, Iterable[str]]:
        there = pool.values[rung]
        if len(there) <= self.keep:
            return None, []
        cutoff = there.best(self.keep)
        return cutoff, [name for name, value in there.items() if value < cutoff]
