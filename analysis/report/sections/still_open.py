"""The comparisons that are not settled, and the launches that would settle them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.compare.comparisons import Rule
from analysis.compare.ranking import OPEN, claim_of
from analysis.format import Unit, duration, join
from analysis.inference.power import MOST_SEEDS
from analysis.inference.spread import MIN_DF, PLAN_AT
from analysis.report import page
from analysis.report.export import FOLDER
from analysis.report.open_questions import Question, Step
from analysis.report.sections.base import Results, Section
from analysis.sweep import Sweep


def _show(results: Results) -> list[str]:
    sweep, questions, steps = results.sweep, results.questions, results.steps
    if not questions:
        return [page.paragraph(f"None: each is settled against {sweep.baseline}.")]
    unit = sweep.unit(sweep.metric)
    suffix = f" ({unit.difference})" if unit.difference else ""
    rows = [
        [
            page.cell(f"{question.arm} – {sweep.baseline}"),
            page.cell(
                unit.text(question.diff, sign=True),
                _spread(question, unit),
            ),
            page.cell(str(question.n)),
            _seeds(question),
        ]
        for question in questions
    ]
    heads = ["comparison", f"difference seen{suffix}", "shared seeds", "seeds that would settle it"]
    commands = [
        f"# {join(list(step.arms))} against {sweep.baseline}: {step.trials} trials, "
        f"{duration(step.seconds)} one after another\n{step.command}"
        for step in steps
    ]
    return [
        page.paragraph(_what_settles(sweep, questions, steps), "note"),
        page.table(heads, rows, cards=True),
        page.code("\n".join(commands)) if commands else "",
    ]


def _spread(question: Question, unit: Unit) -> str:
    if question.n < 2:
        return ""
    limit = f", at most {unit.text(question.upper)}" if math.isfinite(question.upper) else ""
    return f"SD {unit.text(question.sd)}{limit}"


def _seeds(question: Question) -> str:
    if question.seeds:
        why = "to see the spread" if question.to_see else "to show equivalence" * question.as_equivalent
        return page.cell(str(question.seeds), why)
    return page.cell(f"more than {MOST_SEEDS:,}" if question.n > 1 else "–")


def _what_settles(sweep: Sweep, questions: Sequence[Question], steps: Sequence[Step]) -> str:
    family = len(sweep.arms) - 1
    said = (
        "Seeds at which a difference as large as the one seen would be found significant four times in five, "
        f"if the SD is its upper limit (one-sided {PLAN_AT:.0%} confidence, chi-squared), with "
        f"{family} comparison{'s' * (family > 1)} counted"
        + ("; or held within the margin, where that takes fewer. " if Rule.of(sweep).margin else ". ")
    )
    if any(question.to_see for question in questions):
        said += (
            f"An SD of fewer than {MIN_DF} degrees of freedom is no ground to plan on: there the seeds are "
            "those that tell the spread. "
        )
    waiting = int(sweep.trials["status"].isin(OPEN).sum())
    if waiting:
        return f"{said}{waiting} planned trials have not run to their end: first launch with `--resume`."
    if not steps and claim_of(sweep) == "exploratory":
        return f"{said}No trial of the evidence completed: see why under Diverged and failed."
    if not steps:
        return (
            f"{said}No number of seeds settles these: the differences are too small, or not known. Arms that "
            "end alike on every seed, as at 0%, need longer runs: a larger `max_t` under `--extend` goes on "
            "from their checkpoints."
        )
    price = "Priced from where the sweep stands, at the mean time of each arm's completed trials."
    if claim_of(sweep) == "exploratory":
        return (
            f"{said}`{FOLDER}/{steps[0].file}` is `sweep.yaml` with nothing stopped, on fresh seeds and "
            "under another name: `--extend` would only add to trials that were spared on their own results. "
            f"{price}"
        )
    return (
        f"{said}Each file is `sweep.yaml` with more seeds; `--extend` adds them to every arm and runs what "
        f"is missing. {price} To look after each seed and stop at the first small p makes false claims "
        "likelier than 5%: decide on the number once."
    )


SECTION = Section("Comparisons still open", _show, lambda results: len(results.sweep.arms) > 1)
