"""What will decide the comparisons, and how far the evidence will run: a part of the preview."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from analysis.format import duration, join
from analysis.inference.sequential import schedule_of
from sweeps.observe.cost import Cost, phases, wall_clock
from sweeps.observe.simulated import Course, trials_at_looks
from sweeps.plan.evidence import baseline_seeds, has_evidence, looks_of, pairing_of
from sweeps.plan.model import Plan

TIMED = 50  # simulated sweeps whose wall-clock time is worked out


def describe_rule(plan: Plan, courses: Sequence[Course], sd: float | None) -> Iterator[str]:
    """Lines on the rule, with the reason of each `auto`, its looks, and how many trials it takes; none if
    nothing is compared. `courses` were simulated with `sd`."""
    rule, spec = plan.rule, plan.spec
    if len(plan.arms) < 2 or not has_evidence(spec):
        return
    if rule is None:
        yield "Rule: as recorded, before rules were part of a sweep: one look, when all seeds have run"
        return
    number = rule.number_of_comparisons(len(plan.arms))
    asked = {
        "baseline": f"which arms differ from {plan.baseline}",
        "best": "which arms are the best, by all pairs",
        "effects": "what each factor changes, over all arms",
        "spread": f"which arms' SD over seeds differs from that of {plan.baseline}",
    }
    yield f"Question: {rule.question} ({asked[rule.question]})"
    if rule.question == "spread":
        yield "  test: Welch t-test of each seed's distance from the arm's median"
    else:
        yield f"  test: {rule.name}; {rule.pairing} seeds ({pairing_of(spec)[1]})"
    over = f" over {number} comparisons (Holm)" if number > 1 else ""
    if rule.question == "effects":
        over = " over all effects and interactions (Holm)"
    reserve = f", {rule.reserve:.3g} in reserve for extensions" if rule.reserve else ", nothing in reserve"
    yield f"  level: {rule.level(0):.3g}{over}{reserve}"
    if more := baseline_seeds(spec, rule):
        yield f"  more seeds of {plan.baseline}: {', '.join(map(str, more))}"
    if rule.margin is not None:
        yield f"  margin: within {rule.margin:g} arms are equivalent"
    if rule.looks and rule.futility is not None:
        yield f"  futility: an arm stops once a difference of {rule.futility:g} or more is unlikely"
    yield from _looks(plan, number)
    yield from _trials(plan, courses, sd)


def _looks(plan: Plan, comparisons: int) -> Iterator[str]:
    assert plan.rule is not None
    looks, why = looks_of(plan.spec)
    if not looks:
        yield f"  looks: one, when all seeds have run ({why})"
        return
    schedule = schedule_of(looks, plan.rule.anytime)
    level = plan.rule.level(0) / max(comparisons, 1)
    levels = ", ".join(f"{schedule.level(place, level):.2g}" for place in range(len(looks)))
    at = (
        f"{looks[0]} to {looks[-1]} seeds and at any later one"
        if plan.rule.anytime
        else f"{join([*map(str, looks)])} seeds"
    )
    yield f"  looks: at {at} ({why}); an arm that is decided gets no more seeds"
    share = f" (the level / {comparisons}, by Bonferroni)" if comparisons > 1 else ""
    yield f"  a look decides where p is at most {levels}{share}"


def _trials(plan: Plan, courses: Sequence[Course], sd: float | None) -> Iterator[str]:
    """The most trials of the evidence, and the expected number."""
    most = sum(list(phases(plan).values())[-1].values())
    assert plan.rule is not None
    if not courses:
        once = not plan.rule.is_of_arms
        power = f"; no power is estimated for question {plan.rule.question}" if once else ""
        yield f"  evidence: {most:,} trials{power}"
        return
    expected = [f"about {course.mean_trials:,.0f} if {course.what}" for course in courses]
    is_left_out = sd is None and (plan.rule.margin, plan.rule.futility) != (None, None)
    how = ", without margin or futility, as no pilot says how large an SD is" if is_left_out else ""
    yield f"  evidence: {most:,} trials at most; {', '.join(expected)} (simulated{how})"


def time_of_looks(
    plan: Plan, courses: Sequence[Course], costs: Mapping[str, Cost], concurrency: Mapping[str, int]
) -> Iterator[str]:
    """A line with the wall-clock time of the evidence look by look; none without looks.

    The workers wait at each look for its last trial, so that looks take longer where no arm is closed.
    """

    def wall_s(looks: Sequence[Mapping[str, int]]) -> float:
        """In seconds."""
        kinds = [[(n, costs[arm].seconds, 1 / concurrency[arm]) for arm, n in new.items()] for new in looks]
        return sum(map(wall_clock, kinds))

    if not courses:
        return
    expected = [
        f"{duration(round(statistics.fmean(map(wall_s, course.trials[:TIMED]))))} if {course.what}"
        for course in courses
    ]
    yield (
        f"  with looks, at each of which workers wait for its last trial: about "
        f"{duration(round(wall_s(trials_at_looks(plan))))} at most, {', '.join(expected)}"
    )
