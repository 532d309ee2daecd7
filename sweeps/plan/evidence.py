"""Resolves `evidence`: the rule that decides, its looks, and the seeds of each arm.

`sweeps.plan.build` calls it, and refuses what could never decide anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.inference.rule import Rule
from analysis.inference.sequential import Schedule, auto_looks
from analysis.inference.significance import smallest_p
from sweeps.space.errors import SpecError
from sweeps.space.schema import SweepSpec

MANY_ARMS = 7  # from so many arms on, `baseline_seeds: auto` gives the baseline half as many seeds again
SPREAD_SEEDS = 16  # the fewest with which standard deviations are compared


def resolve_rule(spec: SweepSpec, arms: int) -> Rule:
    """The rule of a space with so many arms. Raises SpecError for one that cannot decide anything."""
    evidence = spec.evidence
    pairing = evidence.pairing
    if pairing == "auto":
        pairing = "paired" if spec.seed_keys else "unpaired"
    rule = Rule(
        question=evidence.question,
        test=evidence.test,
        pairing=pairing,
        looks=_looks(spec),
        margin=evidence.margin,
        futility=evidence.futility if evidence.futility is not None else evidence.margin,
        reserve=evidence.reserve,
        on_diverged=evidence.on_diverged,
    )
    _check_question(spec)
    _check_looks(spec, rule, number_of_comparisons(rule, arms))
    return rule


def has_evidence(spec: SweepSpec) -> bool:
    """Whether trials run that are neither chosen by their own result nor stopped early."""
    return bool(spec.tune) or not spec.scheduler.stops


def number_of_comparisons(rule: Rule, arms: int) -> int:
    """How many comparisons of arms the rule plans."""
    return math.comb(arms, 2) if rule.question == "best" else arms - 1


def _looks(spec: SweepSpec) -> tuple[int, ...]:
    evidence, seeds = spec.evidence, len(spec.seeds)
    if isinstance(evidence.looks, list):
        return tuple(evidence.looks)
    is_fixed = evidence.question in ("effects", "spread") or evidence.test == "permutation"
    if evidence.looks == "none" or is_fixed or not has_evidence(spec):
        return ()
    return auto_looks(seeds)


def _check_question(spec: SweepSpec) -> None:
    question, seeds = spec.evidence.question, len(spec.seeds)
    if question == "effects" and (spec.design != "full" or not spec.ablate):
        raise SpecError(
            f"evidence.question: effects are those of factors in a full design, but design is {spec.design}: "
            f"set design: full, or question: baseline"
        )
    if question == "spread" and seeds < SPREAD_SEEDS:
        raise SpecError(
            f"evidence.question: spread compares standard deviations over seeds, which needs "
            f"{SPREAD_SEEDS} seeds or more (given {seeds}): add seeds, or set question: baseline"
        )


def _check_looks(spec: SweepSpec, rule: Rule, comparisons: int) -> None:
    looks, seeds = spec.evidence.looks, len(spec.seeds)
    if not isinstance(looks, list):
        return
    if rule.question in ("effects", "spread"):
        raise SpecError(
            f"evidence.looks: {looks} with question {rule.question}, which is asked once, of all seeds: "
            f"remove looks"
        )
    if not has_evidence(spec):
        raise SpecError(
            f"evidence.looks: {looks}, but a sweep that stops its arms has no evidence: remove looks"
        )
    if looks[-1] != seeds:
        raise SpecError(
            f"evidence.looks: the last of {looks} must be the number of seeds, {seeds}: end it with {seeds}, "
            f"or set looks: auto"
        )
    schedule, level = Schedule(rule.looks), rule.level(0) / max(comparisons, 1)
    for place, n in enumerate(rule.looks):
        least = smallest_p(n, rule.test, rule.pairing)
        if least > schedule.level(place, level):
            raise SpecError(
                f"evidence.looks: the look at {n} seeds can never decide: the {rule.name} gives at the least "
                f"p = {least:.2g}, and needs {schedule.level(place, level):.2g} with {comparisons} "
                f"comparisons: remove this look, or set test: t"
            )


def baseline_seeds(spec: SweepSpec, rule: Rule, arms: int) -> list[int]:
    """Seeds that only the baseline runs, after `seeds`. Raises SpecError for ones that cannot be used.

    Each arm is compared with the baseline, so that its seeds count in every comparison. `auto` adds half as
    many as there are seeds from MANY_ARMS arms on (benchmarks/coverage.py).
    """
    given = spec.evidence.baseline_seeds
    is_shared = rule.question == "baseline" and rule.pairing == "unpaired" and has_evidence(spec)
    if given == "auto":
        if not is_shared or arms < MANY_ARMS or len(spec.seeds) < 4:
            return []
        taken = {*spec.seeds, *(spec.search.seeds if spec.tune else [])}
        first = max(taken) + 1
        return list(range(first, first + len(spec.seeds) // 2))
    if not is_shared:
        raise SpecError(
            f"evidence.baseline_seeds: {_some(given)} is for question baseline with unpaired seeds (here: "
            f"{rule.question}, {rule.pairing}): remove it"
        )
    if shared := sorted(set(given) & set(spec.search.seeds)) if spec.tune else []:
        raise SpecError(
            f"evidence.baseline_seeds: {shared} are also under search.seeds: a draw that was chosen on a "
            f"seed must be shown on others: give other numbers"
        )
    return [seed for seed in given if seed not in spec.seeds]


def _some(seeds: Sequence[int]) -> str:
    return str(list(seeds[:4])) if len(seeds) <= 4 else f"{list(seeds[:4])[:-1]} and more"
