"""Resolves `evidence`: the rule that decides, its looks, and the seeds of each arm.

`sweeps.plan.build` calls it, and refuses what could never decide anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.inference.rule import ASKED_ONCE, Rule
from analysis.inference.sequential import FIRST, Schedule, auto_looks
from analysis.inference.significance import Pairing, smallest_p
from sweeps.space.errors import SpecError
from sweeps.space.schema import SweepSpec

FEWEST_SEEDS = FIRST + 1  # for looks
MOST_SEEDS = 256  # with looks, whose levels take as many steps to compute
SPREAD_SEEDS = 16  # the fewest with which standard deviations are compared


def resolve_rule(spec: SweepSpec, arms: int) -> Rule:
    """The rule of a space with so many arms. Raises SpecError for one that cannot decide anything."""
    evidence = spec.evidence
    rule = Rule(
        question=evidence.question,
        test=evidence.test,
        pairing=pairing_of(spec)[0],
        looks=looks_of(spec)[0],
        anytime=evidence.looks == "anytime",
        margin=evidence.margin,
        futility=evidence.futility if evidence.futility is not None else evidence.margin,
        reserve=evidence.reserve,
        on_diverged=evidence.on_diverged,
    )
    _check_question(spec)
    if rule.anytime:
        _check_anytime(spec, rule)
    else:
        _check_looks(spec, rule, rule.number_of_comparisons(arms))
    return rule


def has_evidence(spec: SweepSpec) -> bool:
    """Whether trials run that are neither chosen by their own result nor stopped early."""
    return bool(spec.tune) or not spec.scheduler.stops


# What is chosen where the YAML says `auto`, each with the reason in words


def pairing_of(spec: SweepSpec) -> tuple[Pairing, str]:
    if spec.evidence.pairing != "auto":
        return spec.evidence.pairing, "given"
    if spec.seed_keys:
        return "paired", f"auto: a seed has the same data in every arm, by {' and '.join(spec.seed_keys)}"
    return "unpaired", "auto: without seed_keys a seed has nothing in common over arms that is worth pairing"


def looks_of(spec: SweepSpec) -> tuple[tuple[int, ...], str]:
    """The looks; () for one at the end."""
    evidence, seeds = spec.evidence, len(spec.seeds)
    if isinstance(evidence.looks, list):
        return tuple(evidence.looks), "given"
    if evidence.looks == "none":
        return (), "given"
    if evidence.looks == "anytime":
        return tuple(range(min(FIRST, seeds), seeds + 1)), "given"
    if not has_evidence(spec):
        return (), "auto: trials that may be stopped carry no claims"
    if evidence.question in ASKED_ONCE:
        return (), f"auto: question {evidence.question} is asked once, of all seeds"
    if evidence.test == "permutation":
        return (), "auto: a permutation test of few seeds cannot reach the level of an early look"
    found = auto_looks(seeds)
    return found, f"auto, of {seeds} seeds" if found else f"auto: below {FEWEST_SEEDS} seeds"


def baseline_seeds(spec: SweepSpec, rule: Rule) -> list[int]:
    """Seeds that only the baseline runs, after `seeds`. Raises SpecError for ones that cannot be used.

    Each arm is compared with the baseline, so that its seeds count in every comparison. `auto` adds none:
    they buy power, but where the baseline varies much less than the arms, Welch's test of samples of unequal
    size makes more false claims than it should (benchmarks/coverage.py).
    """
    given = spec.evidence.baseline_seeds
    is_shared = rule.question == "baseline" and rule.pairing == "unpaired" and has_evidence(spec)
    searched = set(spec.search.seeds if spec.tune else [])
    if given == "auto":
        return []
    if given and not has_evidence(spec):
        raise SpecError(
            f"evidence.baseline_seeds: {_some(given)}, but a sweep that stops its arms has no evidence: "
            f"remove it"
        )
    if given and not is_shared:
        raise SpecError(
            f"evidence.baseline_seeds: {_some(given)} is for question baseline with unpaired seeds (here: "
            f"{rule.question}, {rule.pairing}): remove it"
        )
    if shared := sorted(set(given) & searched):
        raise SpecError(
            f"evidence.baseline_seeds: {shared} are also under search.seeds: a draw that was chosen on a "
            f"seed must be shown on others: give other numbers"
        )
    return [seed for seed in given if seed not in spec.seeds]


def _some(seeds: Sequence[int]) -> str:
    return str(list(seeds)) if len(seeds) <= 4 else f"{list(seeds[:3])} and more"


# What is refused


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


def _check_anytime(spec: SweepSpec, rule: Rule) -> None:
    seeds, wrong = len(spec.seeds), ""
    if rule.pairing != "paired" or rule.test != "t":
        wrong = f"is for the paired t-test (here: {rule.name}): set pairing: paired and test: t"
    elif not rule.is_of_arms:
        wrong = f"with question {rule.question}, which is asked once, of all seeds: remove looks"
    elif not has_evidence(spec):
        wrong = "but a sweep that stops its arms has no evidence: remove looks"
    elif seeds < 2:
        wrong = f"needs 2 seeds or more (given {seeds}): add seeds"
    if wrong:
        raise SpecError(f"evidence.looks: anytime {wrong}")


def _check_looks(spec: SweepSpec, rule: Rule, comparisons: int) -> None:
    looks, seeds = spec.evidence.looks, len(spec.seeds)
    if rule.looks and seeds > MOST_SEEDS:
        raise SpecError(
            f"evidence.looks: {looks} with {seeds:,} seeds, but arms are looked at over {MOST_SEEDS} at the "
            f"most: set looks: none, which compares them once at the end, or give fewer seeds"
        )
    if not isinstance(looks, list):
        return
    if not rule.is_of_arms:
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
