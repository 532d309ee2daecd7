"""The comparisons that are not settled, and the launches that would settle them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.compare.claims import claims_of, rule_of
from analysis.compare.ranking import OPEN
from analysis.format import Unit, duration, join
from analysis.inference.power import MOST_SEEDS
from analysis.inference.spread import MIN_DF, PLAN_AT
from analysis.report import page
from analysis.report.export import FOLDER
from analysis.report.open_questions import Question, Step, next_allowed
from analysis.report.sections.base import Results, Section
from analysis.sweep import Sweep


def _show(results: Results) -> list[page.Part]:
    sweep, questions, steps = results.sweep, results.questions, results.steps
    if not questions:
        return [page.Paragraph(_nothing_open(sweep))]
    unit = sweep.unit(sweep.metric)
    suffix = unit.difference_suffix
    rows = [
        [
            page.Cell(f"{question.arm} – {question.against}"),
            page.Cell(
                unit.text(question.diff, sign=True),
                _spread(question, unit),
            ),
            page.Cell(str(question.n)),
            _seeds(question),
        ]
        for question in questions
    ]
    heads = ["comparison", f"difference seen{suffix}", "seeds", "new seeds that would settle it"]
    commands = [
        f"# {join(list(step.arms))}: {step.trials} trials, "
        f"{duration(step.seconds)} one after another\n{step.command}"
        for step in steps
    ]
    return [
        page.Paragraph(_what_settles(sweep, questions, steps), "note"),
        page.Table(heads, rows),
        *([page.Code("\n".join(commands))] if commands else []),
    ]


def _spread(question: Question, unit: Unit) -> str:
    if question.n < 2:
        return ""
    limit = f", at most {unit.text(question.upper)}" if math.isfinite(question.upper) else ""
    return f"SD {unit.text(question.sd)}{limit}"


def _seeds(question: Question) -> page.Cell:
    if question.seeds:
        why = "to see the spread" if question.to_see else "to show equivalence" * question.as_equivalent
        return page.Cell(str(question.seeds), why)
    return page.Cell(f"more than {MOST_SEEDS:,}" if question.n > 1 else "–")


def _nothing_open(sweep: Sweep) -> str:
    claims = claims_of(sweep)
    if any(row.stopped for row in claims.recorded):
        return (
            "None that more seeds are planned for: each comparison is settled, or was stopped for futility."
        )
    return "None: each comparison is settled."


def _what_settles(sweep: Sweep, questions: Sequence[Question], steps: Sequence[Step]) -> str:
    allowed = next_allowed(sweep)
    family = allowed.family
    said = (
        "New seeds at which a difference as large as the one seen would be found significant four times in "
        f"five, if the SD is its upper limit (one-sided {PLAN_AT:.0%} confidence, chi-squared), at level "
        f"{allowed.level:g} with {family} comparison{'s' * (family > 1)} counted"
        + ("; or held within the margin, where that takes fewer. " if rule_of(sweep).margin else ". ")
    )
    if any(question.to_see for question in questions):
        said += (
            f"An SD of fewer than {MIN_DF} degrees of freedom is no ground to plan on: there the seeds are "
            "those that tell the spread. "
        )
    waiting = int(sweep.trials["status"].isin(OPEN).sum())
    if waiting:
        return f"{said}{waiting} planned trials have not run to their end: first launch with `--resume`."
    if not steps and sweep.is_exploratory:
        return f"{said}No trial of the evidence completed: see why under Diverged and failed."
    if not steps:
        return (
            f"{said}No number of seeds settles these: the differences are too small, or not known. Arms that "
            "end alike on every seed, as at 0%, need longer runs: a larger `max_t`."
        )
    price = "Priced at the mean time of each arm's completed trials."
    if allowed.fresh:
        why = "trials that were spared on their own results"
        if not sweep.is_exploratory:
            why = "seeds that have been looked at, and the 5% are spent"
        return (
            f"{said}`{FOLDER}/{steps[0].file}` is `sweep.yaml` on fresh seeds under another name, with a 5% "
            f"of its own: `--extend` would only add to {why}. {price}"
        )
    return (
        f"{said}Each file is `sweep.yaml` with more seeds; `--extend` runs them for the open arms and what "
        "they are compared with. The extension claims from its new seeds alone, at its part of the reserve "
        f"that was kept for extensions; verdicts that stand above stay as they are. {price}"
    )


SECTION = Section("Comparisons still open", _show, lambda results: len(results.sweep.arms) > 1)
