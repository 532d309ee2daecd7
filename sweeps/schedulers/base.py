"""What a scheduler is: the rungs at which a pool's members are judged, and who stops at a rung.

A pool holds members that are compared with each other. A scheduler sees one value a member and rung, higher
is better; seeds, reports and the audit are the matter of `sweeps.decide.judge`. This folder imports no other
of `sweeps`: the schema of the YAML takes the kinds and their keys from it.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections.abc import ItemsView, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Ranking:
    """A number for each member, kept in order: a pool of thousands is not sorted again at each arrival."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._rising: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, member: str) -> bool:
        return member in self._values

    def __getitem__(self, member: str) -> float:
        return self._values[member]

    def __delitem__(self, member: str) -> None:
        del self._rising[bisect_left(self._rising, self._values.pop(member))]

    def __setitem__(self, member: str, value: float) -> None:
        if member in self._values:
            del self._rising[bisect_left(self._rising, self._values[member])]
        self._values[member] = value
        insort(self._rising, value)

    def items(self) -> ItemsView[str, float]:
        """The members and their numbers, in the order of arrival."""
        return self._values.items()

    def best(self, place: int) -> float:
        """The highest number for place 1, the next one for place 2, and so on."""
        return self._rising[-place]

    def tied(self, member: str) -> int:
        """How many others have the very same number."""
        value = self._values[member]
        return bisect_right(self._rising, value) - bisect_left(self._rising, value) - 1

    def median_of_others(self, member: str) -> float:
        """The median without this member's number. Needs at least one other."""
        own, others = bisect_left(self._rising, self._values[member]), len(self) - 1
        low, high = (self._rising[place + (place >= own)] for place in ((others - 1) // 2, others // 2))
        return (low + high) / 2


@dataclass
class Pool:
    """What each member had at each rung (higher is better). `enter` keeps both rankings.

    `values` has for each rung the members' values, means over seeds; `means` the mean of a member's values up
    to and including that rung.
    """

    values: dict[float, Ranking] = field(default_factory=dict)
    means: dict[float, Ranking] = field(default_factory=dict)

    def enter(self, rung: float, member: str, value: float) -> None:
        """The member has come to the rung."""
        self.values.setdefault(rung, Ranking())[member] = value
        for reached, there in self.values.items():
            if reached >= rung and member in there:
                mean = statistics.fmean(self.history(member, reached))
                self.means.setdefault(reached, Ranking())[member] = mean

    def leave(self, rung: float, member: str) -> None:
        """The member is not at the rung, nor at any above it."""
        for rankings in (self.values, self.means):
            for reached, there in rankings.items():
                if reached >= rung and member in there:
                    del there[member]

    def history(self, member: str, rung: float) -> list[float]:
        """The member's values at the rungs up to and including `rung`."""
        return [
            self.values[level][member]
            for level in sorted(self.values)
            if level <= rung and member in self.values[level]
        ]


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
