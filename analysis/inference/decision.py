"""Verdicts on a family of comparisons at a look, at one family-wise level.

Each comparison has two hypotheses, of which at most one is true: that the arms do not differ, and that they
differ by the margin or more. Both are tested by a closed procedure with Bonferroni's inequality (Holm 1979;
Shaffer 1986 for the hypotheses that exclude each other). Without a margin this is Holm's procedure over all
planned comparisons. With one, a comparison frees its part of the level for the others only if both of its
hypotheses are rejected: "better" and "equivalent" claims together err at the level, and a margin takes
nothing from the tests of a difference.

The p are repeated p (analysis.inference.sequential), which hold whatever was stopped before. A comparison
that is decided, or stopped for futility, keeps its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from analysis.inference.rule import Rule
from analysis.inference.sequential import Schedule

BETTER, WORSE, EQUIVALENT = "better", "worse", "equivalent"
NOT_SETTLED, TOO_FEW = "not settled", "too few seeds"
DECIDED = (BETTER, WORSE, EQUIVALENT)


@dataclass(frozen=True)
class Comparison:
    """An arm against another one at the last look at the two.

    `diff`, `low`, `high` are in the metric's units; `p` and `p_equivalent` are repeated p, `p_adjusted` and
    `p_equivalent_adjusted` are adjusted over the family; all are NaN where there are too few values. `look`
    counts from 1, and is 0 before the first. `stopped` is whether it gets no more seeds without a verdict.
    """

    arm: str
    against: str
    seeds: tuple[int, ...] = ()
    seeds_against: tuple[int, ...] = ()
    diff: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_adjusted: float = math.nan
    p_equivalent: float = math.nan
    p_equivalent_adjusted: float = math.nan
    look: int = 0
    verdict: str = NOT_SETTLED
    stopped: bool = False
    note: str = ""

    @property
    def closed(self) -> bool:
        """Whether no further seed is planned for it."""
        return self.stopped or self.verdict in DECIDED

    @property
    def arm_and_against(self) -> tuple[str, str]:
        return self.arm, self.against

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Comparison:
        """From a line of the journal, which has non-finite numbers as text."""
        kept: dict[str, Any] = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        for name, value in kept.items():
            default = getattr(cls, name, "")
            kept[name] = type(default)(value) if isinstance(default, float | tuple) else value
        return cls(**kept)


def beaten(rows: Iterable[Comparison]) -> set[str]:
    """The arms that are worse than another one."""
    decided = [row for row in rows if row.verdict in (BETTER, WORSE)]
    return {row.arm if row.verdict == WORSE else row.against for row in decided}


class Measured(Protocol):
    """What is asked of the values of a comparison; `analysis.inference.samples.Pair` is one."""

    @property
    def maximise(self) -> bool: ...
    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def other_seeds(self) -> Sequence[int]: ...
    @property
    def diff(self) -> float: ...
    @property
    def p(self) -> float: ...
    @property
    def smallest_p(self) -> float: ...
    @property
    def equivalence_p(self) -> float: ...
    @property
    def note(self) -> str: ...
    def interval(self, level: float) -> tuple[float, float]: ...
    def equivalence_interval(self, level: float) -> tuple[float, float]: ...
    def is_futile(self, schedule: Schedule, level: float) -> bool: ...


def adjusted(p: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The adjusted p of each hypothesis: the smallest level at which the closed procedure rejects it.

    `p` [..., family] are the hypotheses' own p; `others` [..., family] is for each comparison the larger p of
    those of its hypotheses that the family tests. NaN counts as 1. Where the two are the same this is Holm's.
    """
    p, others = np.nan_to_num(p, nan=1.0), np.nan_to_num(others, nan=1.0)
    found = np.empty(p.shape)
    first, family = np.full((*p.shape[:-1], 1), math.inf), p.shape[-1]
    for place in range(family):
        largest_first = -np.sort(-np.delete(others, place, axis=-1), axis=-1)
        bounds = np.minimum(p[..., place, None], np.concatenate([first, largest_first], axis=-1))
        found[..., place] = np.minimum((bounds * np.arange(1, family + 1)).max(axis=-1), 1.0)
    return found


def decide(
    before: Sequence[Comparison],
    pairs: Mapping[tuple[str, str], Measured],
    rule: Rule,
    look: int,
    schedule: Schedule,
    level: float,
) -> list[Comparison]:
    """The family after look number `look` (0 is the first), at the family-wise `level`.

    `before` holds all planned comparisons, `pairs` the values of those that are looked at now, by (arm,
    against). The others keep their p.
    """
    is_last = look == len(schedule.looks) - 1
    new: dict[int, Measured] = {
        place: pairs[each.arm, each.against]
        for place, each in enumerate(before)
        if not each.closed and (each.arm, each.against) in pairs
    }
    found = [
        _looked_at(each, new[place], look, schedule) if place in new else each
        for place, each in enumerate(before)
    ]
    p = np.array([each.p for each in found])
    p_equivalent = np.array([each.p_equivalent for each in found])
    others = p if rule.margin is None else np.fmax(p, np.nan_to_num(p_equivalent, nan=1.0))
    for_difference, for_equivalence = adjusted(p, others), adjusted(p_equivalent, others)
    too_few = _too_few(found, new, schedule, look, level)
    for place, pair in new.items():
        each = replace(
            found[place],
            p_adjusted=_known(for_difference[place], p[place]),
            p_equivalent_adjusted=_known(for_equivalence[place], p_equivalent[place]),
        )
        if each.p_equivalent_adjusted <= level:
            step = _rejected_at(p_equivalent[place], others, place, level)
            low, high = pair.equivalence_interval(schedule.one_sided_level(look, step))
            verdict = EQUIVALENT
        else:
            verdict, step = TOO_FEW if too_few[place] else NOT_SETTLED, level / len(before)
            if each.p_adjusted <= level:
                verdict = BETTER if (each.diff > 0) == pair.maximise else WORSE
                step = _rejected_at(p[place], others, place, level)
            low, high = pair.interval(schedule.level(look, step))
        stopped = verdict not in DECIDED and not is_last and pair.is_futile(schedule, level / len(before))
        notes = [f"stopped for futility at look {look + 1}" if stopped else "", pair.note]
        note = "; ".join(filter(None, notes))
        found[place] = replace(each, low=low, high=high, verdict=verdict, stopped=stopped, note=note)
    return found


def _looked_at(each: Comparison, pair: Measured, look: int, schedule: Schedule) -> Comparison:
    """The comparison with the values of this look, not decided yet."""
    return replace(
        each,
        seeds=tuple(pair.seeds),
        seeds_against=tuple(pair.other_seeds),
        diff=pair.diff,
        p=float(schedule.p(look, pair.p)),
        p_equivalent=float(schedule.one_sided_p(look, pair.equivalence_p)),
        look=look + 1,
    )


def _rejected_at(p: float, others: np.ndarray, place: int, level: float) -> float:
    """The level at which the procedure rejects a hypothesis of comparison `place`: Bonferroni's over all
    comparisons if that suffices, else the larger one that rejections of others have freed."""
    unfreed = np.delete(np.nan_to_num(others, nan=1.0), place) >= p
    bonferroni, freed = level / len(others), level / (1 + int(unfreed.sum()))
    return bonferroni if p <= bonferroni else freed


def _too_few(
    seen: Sequence[Comparison], new: Mapping[int, Measured], schedule: Schedule, look: int, level: float
) -> np.ndarray:
    """Whether no values could have decided a comparison with so many seeds."""
    smallest = np.array([0.0 if each.look else math.nan for each in seen])
    for place, pair in new.items():
        smallest[place] = schedule.p(look, pair.smallest_p)
    return np.where(np.isnan(smallest), True, adjusted(smallest, smallest) > level)


def _known(value: float, own: float) -> float:
    return math.nan if math.isnan(own) else float(value)
