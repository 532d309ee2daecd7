"""No early stopping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar, Literal

from sweeps.schedulers.base import Pool, Scheduler


class Fifo(Scheduler):
    """Stops nobody."""

    stops: ClassVar[bool] = False

    kind: Literal["fifo"] = "fifo"
    max_t: float = math.inf  # a trial's own end, where the plan does not know it

    def rungs(self) -> list[float]:
        return []

    def needed(self) -> float:
        return math.inf

    def judge(self, pool: Pool, rung: float, member: str) -> tuple[float | None, Iterable[str]]:
        return None, []
