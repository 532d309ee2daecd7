"""Many sweeps at once come to the verdicts of the project's own decisions, and of its controller."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.inference.many import CODES
from analysis.inference.rule import Rule
from benchmarks.coverage import LOOKS, controller_rows, play, wrong
from benchmarks.designs import Design
from benchmarks.families import NO_LIMITS, Values, decide_many, decide_one, decide_open
from benchmarks.worlds import World, spreads

SWEEPS = 25


def drawn(kind: str, more: int, rng: np.random.Generator) -> Values:
    """Three arms with no, small and large differences."""
    arms = rng.normal(size=(SWEEPS, 8, 3)) + rng.choice([0.0, 1.5, 4.0], size=(SWEEPS, 1, 3))
    baseline = rng.normal(size=(SWEEPS, 8 + more))
    limits = NO_LIMITS
    if kind == "equal values":
        arms, baseline = np.clip(arms, 0.5, 3.0), np.clip(baseline, 0.5, 3.0)
    elif kind != "normal":
        arms[rng.random(arms.shape) < 0.15] = np.nan
        baseline[rng.random(baseline.shape) < 0.15] = np.nan
        limits = (-5.0, 10.0) if kind == "diverged, known limits" else NO_LIMITS
    return Values(arms, baseline, limits)


@pytest.mark.parametrize("kind", ["normal", "equal values", "diverged, known limits", "diverged"])
@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
@pytest.mark.parametrize("given", [{}, {"futility": 2.0}, {"margin": 1.5, "futility": 1.5}])
def test_many_sweeps_at_once_are_decided_as_each_alone(kind: str, pairing: str, given: dict) -> None:
    rng, seen = np.random.default_rng(0), set()
    for looks in ((8,), (3, 4, 8), (3, 4, 5, 6, 8)):
        rule = Rule(pairing=pairing, looks=looks, **given)  # type: ignore[arg-type]
        values = drawn(kind, 4 if pairing == "unpaired" else 0, rng)
        found = decide_many(values, rule, looks, 0.04)
        for sweep in range(SWEEPS):
            one = Values(values.arms[[sweep]], values.baseline[[sweep]], values.limits)
            rows, run = decide_one(one, rule, looks, 0.04)
            assert [CODES.get(row.verdict, 0) for row in rows] == list(found.verdicts[sweep])
            assert [row.stopped for row in rows] == list(found.stopped[sweep])
            assert list(run) == list(found.seeds[sweep])
        seen |= set(found.verdicts.ravel())
    assert {0, 1} <= seen


def test_the_controller_comes_to_the_same_verdicts() -> None:
    """Looks, futility, a margin, diverged runs, more seeds for the baseline, and three extensions."""
    rows = list(controller_rows(2, 3))
    assert len(rows) == 14 and any(row["more_baseline"] for row in rows)
    assert all(row["same"] == row["of"] == 2 for row in rows)


def test_an_extension_has_the_family_of_what_is_open() -> None:
    """One comparison at 0.04 alone claims what it could not among three."""
    values = World("all alike", (1.0,) * 4).draw(np.random.default_rng(4), np.full((400, 3), 1.5), 8)
    rule, everything = Rule(pairing="unpaired"), np.ones((400, 3), bool)
    alone = everything & [True, False, False]
    among, single = (decide_open(values, is_open, rule, 0.04) for is_open in (everything, alone))
    assert (among == decide_many(values, rule, [8], 0.04).verdicts).all()
    assert not single[:, 1:].any()
    assert set(np.flatnonzero(among[:, 0])) < set(np.flatnonzero(single[:, 0]))


def test_a_looked_at_sweep_seldom_claims_without_a_difference_and_saves_where_there_is_one() -> None:
    rng = np.random.default_rng(5)
    for pairing in ("unpaired", "paired"):
        design = Design(pairing, LOOKS[-1])  # type: ignore[arg-type]
        null = play(World("all alike", spreads(4)["all 1"]), design, 2_000, rng, extensions=3)
        assert 0.01 < (null.verdicts != 0).any(axis=1).mean() < 0.06
        large = play(World("large", (1.0,) * 4, effects=(8.0,) * 3), design, 200, rng)
        assert (large.plan.verdicts == 1).mean() > 0.99 and large.plan.seeds.mean() < 6


def test_what_is_a_false_claim() -> None:
    effects = np.array([[0.0, 0.0, 2.0, 2.0, 1.0, -1.0]])
    verdicts = np.array([[1, 2, 1, 2, 2, 1]])
    is_false, sign = wrong(verdicts, effects, 2.0)
    assert list(is_false[0]) == [True, False, False, True, False, True]
    assert list(sign[0]) == [False] * 5 + [True]
