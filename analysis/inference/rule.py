"""The rule by which a sweep's evidence is decided: `evidence` in the search space, with `auto` resolved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from analysis.inference.intervals import ALPHA
from analysis.inference.significance import NAMES, Pairing, Test

Question = Literal["baseline", "best", "effects", "spread"]
ASKED_ONCE: tuple[Question, ...] = ("effects", "spread")  # answered at the end, not look by look
OnDiverged = Literal["worst", "left_out"]

SMALLEST_LEVEL = 0.0005  # an extension with a smaller level than this can claim nothing of use


@dataclass(frozen=True)
class Rule:
    """How comparisons are decided.

    `looks`: numbers of seeds at which the evidence is looked at, rising; () for one look at the end.
    `anytime`: an e-process decides, at any number of seeds. `margin`
    and `futility` are differences in the metric's own units. `reserve` is the share of the 5% that is kept
    for extensions. `on_diverged`: `worst`, a claim holds with diverged and failed seeds left out and with
    them at the worst value; `left_out`, the rule of sweeps recorded before there was a choice.
    """

    question: Question = "baseline"
    test: Test = "t"
    pairing: Pairing = "unpaired"
    looks: tuple[int, ...] = ()
    anytime: bool = False
    margin: float | None = None
    futility: float | None = None
    reserve: float = 0.01
    on_diverged: OnDiverged = "worst"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Rule:
        """The rule of a recorded `evidence`. Keys that an old sweep lacks are as they were then.

        Raises ValueError naming a key whose value is not allowed.
        """
        is_old = "question" not in given
        known = {
            "question": given.get("question", "baseline"),
            "test": given.get("test") or "t",
            "pairing": given.get("pairing") or "paired",
            "on_diverged": given.get("on_diverged", "left_out" if is_old else "worst"),
        }
        kinds = {"question": Question, "test": Test, "pairing": Pairing, "on_diverged": OnDiverged}
        for key, kind in kinds.items():
            if known[key] not in get_args(kind):
                raise ValueError(f"evidence.{key} is {known[key]!r}; it may be {' or '.join(get_args(kind))}")
        for key in ("margin", "futility"):
            if given.get(key) is not None and not float(given[key]) > 0:
                raise ValueError(
                    f"evidence.{key} is {given[key]}; it is a difference in the metric's own units: give a "
                    f"number above 0, or leave it out"
                )
        margin, futility = (
            None if given.get(key) is None else float(given[key]) for key in ("margin", "futility")
        )
        looks = given.get("looks") or ()
        return cls(
            **known,
            looks=() if looks in ("none", "anytime") else tuple(int(look) for look in looks),
            anytime=bool(given.get("anytime", looks == "anytime")),
            margin=margin,
            futility=futility,
            reserve=float(given.get("reserve", 0.0)),
        )

    @property
    def is_of_arms(self) -> bool:
        """Whether it is arms' means that are compared."""
        return self.question not in ASKED_ONCE

    @property
    def deciding(self) -> Rule:
        """With the test that decides: effects and spreads are contrasts, by t, and spreads pair no seeds."""
        if self.is_of_arms:
            return self
        return replace(self, test="t", pairing="unpaired" if self.question == "spread" else self.pairing)

    @property
    def name(self) -> str:
        """The name of the deciding test, such as "Welch t-test"."""
        return NAMES[self.test, self.pairing]

    def pairs(self, arms: Sequence[str], baseline: str) -> list[tuple[str, str]]:
        """The comparisons of arms, as (arm, against): all pairs under question best, else with the
        baseline."""
        if self.question == "best":
            return [(arm, against) for against, arm in itertools.combinations(arms, 2)]
        return [(arm, baseline) for arm in arms if arm != baseline]

    def number_of_comparisons(self, arms: int) -> int:
        """How many comparisons of so many arms there are."""
        return math.comb(arms, 2) if self.question == "best" else arms - 1

    def level(self, stage: int) -> float:
        """The family-wise level of the plan (stage 0) or of an extension (1, 2, ...), each of which gets half
        of what is left of the reserve."""
        return ALPHA - self.reserve if stage == 0 else self.reserve / 2**stage
