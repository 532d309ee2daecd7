"""What a scheduler is: the rungs at which a pool's members are judged, and who stops at a rung.

A pool holds members that are compared with each other. A scheduler sees one value a member and rung, higher
is better; seeds, reports and the audit are the matter of `sweeps.decide.judge`. This folder imports no other
of `sweeps`: the schema of the YAML takes the kinds and their keys from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


@dataclass
class Pool:
    """What each member had at each rung (higher is better)."""

    values: dict[float, dict[str, float]] = field(default_factory=dict)  # rung -> member -> mean over seeds

    def history(self, member: str, rung: float) -> list[float]:
        """The member's values at the rungs up to and including `rung`."""
        return [at[member] for level, at in sorted(self.values.items()) if level <= rung and member in at]


class Scheduler(BaseModel, ABC):
    """One value of the key `scheduler.kind`. The fields of a subclass are the keys that the YAML has for this
    kind beside those of all kinds, with their types and defaults."""

    model_config = ConfigDict(frozen=True)
    stops: ClassVar[bool] = True  # whether it stops anybody, ever

    kind: str
    grace_period: float  # the first rung, in `time_attr`
    max_t: float  # the horizon, in `time_attr`

    @abstractmethod
    def rungs(self) -> list[float]:
        """The values of `time_attr` at which members are judged, in rising order, all below `max_t`."""

    @abstractmethod
    def needed(self) -> float:
        """How many members a pool must have before it can lose one; infinity where it never does."""

    @abstractmethod
    def judge(self, pool: Pool, rung: float, member: str) -> tuple[float | None, Iterable[str]]:
        """`member` has just come to the rung: the cut-off there, None where there is nothing to compare with,
        and the members that are below it now."""

    def number_of_rungs(self) -> float:
        """About as many as `rungs` gives. To be worked out without a list where a small key makes it huge: it
        is asked first, and a sweep with too many is refused."""
        return len(self.rungs())

    @classmethod
    def own_keys(cls) -> set[str]:
        return set(cls.model_fields) - set(Scheduler.model_fields)
