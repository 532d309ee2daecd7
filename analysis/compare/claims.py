"""What a sweep's evidence claims: the verdicts that its looks recorded, or those of a re-analysis.

A sweep that was planned with a rule has its verdicts in its journal, look by look; here they are read, never
recomputed. Where there are none (an old sweep, one read from MLflow, another rule than the recorded one) they
are computed from the values, and `carried` says whether they may be called claims.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from analysis.format import few
from analysis.inference.decision import BETTER, WORSE, Comparison, beaten
from analysis.inference.intervals import ALPHA, cut_ends, of_differences
from analysis.inference.rule import Rule
from analysis.sweep import OPEN, AnalysisError, Sweep

NO_LOOK = "no look has been taken yet"


@dataclass(frozen=True)
class Claims:
    """The rule, and the comparisons that it decided.

    `recorded` are the comparisons of the journal, empty where the verdicts are computed from the values.
    `level` is the family-wise level of the plan, `looks` its numbers of seeds. `carried`: the verdicts are
    claims; if not, `note` says why. `planned` are the numbers of looks at each recorded comparison, by (arm,
    against).
    """

    rule: Rule
    metric: str
    level: float
    looks: tuple[int, ...]
    recorded: tuple[Comparison, ...]
    carried: bool
    note: str = ""
    planned: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def number_of_looks(self, arm: str, against: str) -> int:
        """How many looks at these two are planned, in the stage that looked last; 0 where none is known."""
        return self.planned.get((arm, against), self.planned.get((against, arm), 0))

    def of_arm(self, arm: str, means: Mapping[str, float], maximise: bool) -> Comparison | None:
        """The recorded comparison that says most about an arm: with the baseline; of all pairs, the one that
        it lost, else with the best of the others. None if there is none."""
        if self.rule.question != "best":
            return next((row for row in self.recorded if row.arm == arm), None)
        mine = [
            row if row.arm == arm else reversed_(row) for row in self.recorded if arm in row.arm_and_against
        ]
        lost = [row for row in mine if row.verdict == WORSE]
        if lost:
            return min(lost, key=lambda row: row.p_adjusted)
        sign = 1.0 if maximise else -1.0
        known = [row for row in mine if row.look and math.isfinite(means.get(row.against, math.nan))]
        return max(known, key=lambda row: sign * means[row.against], default=mine[0] if mine else None)

    @property
    def best_set(self) -> list[str]:
        """Under question best: the arms that are not worse than any other one, a 95% set of the best."""
        arms = dict.fromkeys(itertools.chain.from_iterable(row.arm_and_against for row in self.recorded))
        out = beaten(self.recorded)
        return [arm for arm in arms if arm not in out]

    @property
    def open(self) -> list[str]:
        """The arms of comparisons that more seeds may still decide."""
        out = beaten(self.recorded) if self.rule.question == "best" else set()
        rows = [row for row in self.recorded if not row.closed and not out & {*row.arm_and_against}]
        arms = [row.arm_and_against if self.rule.question == "best" else (row.arm,) for row in rows]
        return list(dict.fromkeys(itertools.chain.from_iterable(arms)))


def reversed_(row: Comparison) -> Comparison:
    """The same comparison, seen from the other arm."""
    other = {BETTER: WORSE, WORSE: BETTER}
    return replace(
        row,
        arm=row.against,
        against=row.arm,
        seeds=row.seeds_against,
        seeds_against=row.seeds,
        diff=-row.diff,
        low=-row.high,
        high=-row.low,
        verdict=other.get(row.verdict, row.verdict),
        note="; ".join(_reversed_note(part) for part in row.note.split("; ")),
    )


def _reversed_note(part: str) -> str:
    """A part of a note: what became of seeds is told of the first arm, or "of the other arm"."""
    lost, whose = " diverged or failed", " of the other arm"
    if not part.endswith(lost):
        return part
    told = part.removesuffix(lost)
    return (told.removesuffix(whose) if told.endswith(whose) else told + whose) + lost


def rule_of(sweep: Sweep) -> Rule:
    """The rule that the sweep's folder names. Raises AnalysisError if it is invalid."""
    recorded = _recorded(sweep)
    given = {
        key: value
        for key, value in (sweep.space.get("evidence") or {}).items()
        if value not in (None, "auto")
    }
    if recorded.get("anytime") and given.get("looks") == "anytime":
        del given["looks"]  # what it came to is recorded
    try:
        return Rule.of({**recorded, **given} if recorded else given)
    except (ValueError, TypeError) as error:
        raise AnalysisError(f"{sweep.name}: {error}") from error


def _recorded(sweep: Sweep) -> Mapping[str, Any]:
    """The rule that is part of the sweep's identity; empty for a sweep that was recorded before there was
    one."""
    return (sweep.resolved.get("identity") or {}).get("evidence") or {}


def claims_of(sweep: Sweep) -> Claims:
    """What the sweep claims. Raises AnalysisError if its `evidence` is invalid."""
    rule, recorded = rule_of(sweep), _recorded(sweep)
    stages = [event for event in sweep.events if event["event"] == "stage"]
    level = rule.level(0) if recorded else ALPHA
    looks = tuple(stages[0]["looks"]) if stages else ()
    metric = _metric(sweep)
    if sweep.is_exploratory:
        note = "exploratory: the trials were chosen, or spared from stopping, on the results that are shown"
        return Claims(rule, metric, level, looks, (), False, note)
    if not recorded:
        note = _why_old_results_carry_none(sweep)
        return Claims(rule, metric, level, looks, (), not note, note)
    planned = Rule.of(recorded)
    if rule != planned:
        changed = [key for key, value in asdict(rule).items() if value != getattr(planned, key)]
        said = ", ".join(
            f"{key}: {_said(getattr(rule, key))} instead of {_said(getattr(planned, key))}" for key in changed
        )
        note = f"analysed again under another rule than the recorded one ({said})"
        return Claims(rule, metric, level, looks, (), False, note)
    if not rule.is_of_arms:
        note = _unfinished(sweep)
        if any(event["event"] == "extend" for event in sweep.events):
            note = "extended after its results were known: such a question is asked once"
        return Claims(rule, metric, level, looks, (), not note, note)
    if not stages and len(sweep.arms) > 1:
        note = "the looks are not known here: they are in the journal of the sweep's folder"
        return Claims(rule, metric, level, looks, (), False, note)
    rows, planned_looks = _rows(sweep, stages)
    note = _why_looks_carry_none(sweep, stages)
    return Claims(rule, metric, level, looks, tuple(rows.values()), not note, note, planned_looks)


def _why_looks_carry_none(sweep: Sweep, stages: list[Mapping[str, Any]]) -> str:
    """Why the recorded verdicts are no claims; '' if they are."""
    if any(stage.get("trained") != stages[0].get("trained") for stage in stages):
        return (
            "its trials were trained longer, or other draws were chosen, after a look: what is shown is not "
            "what was planned; a claim needs a new sweep"
        )
    evidence = sweep.trials[sweep.trials["phase"] == "evidence"]
    reused = int(evidence["reason"].str.startswith("reused from").sum())
    if reused:
        return f"{reused} of its trials are those of another sweep, whose results may have been known"
    if again := _run_again_after_a_look(sweep):
        return (
            f"{len(again)} of its trials had failed at a look, and were run again after it ({few(again)}): "
            f"what is shown is not what was looked at; a claim needs a new sweep"
        )
    return ""


def _run_again_after_a_look(sweep: Sweep) -> list[str]:
    """The trials that a user had run again after a look had counted them as failed, or an arm without any of
    its draws as failed."""
    trials = sweep.trials.set_index("trial_id")
    looked_at: dict[str, set[int]] = {}
    again: dict[str, None] = {}
    for event in sweep.events:
        if event["event"] == "look":
            for arm, seeds in event["arms"].items():
                looked_at.setdefault(arm, set()).update(seeds)
        elif (
            event["event"] == "retry" and event.get("cause") == "asked" and event["trial_id"] in trials.index
        ):
            trial = trials.loc[event["trial_id"]]
            seen = looked_at.get(trial["arm"], set())
            if trial["seed"] in seen or (event.get("reselect") and seen):
                again[event["trial_id"]] = None
    return list(again)


def _why_old_results_carry_none(sweep: Sweep) -> str:
    """Why the results of a sweep without a recorded rule are no claims; '' if they are."""
    if any(event["event"] == "extend" for event in sweep.events):
        return "extended after its results were known: p no longer holds at 5%"
    if sweep.folder is None:
        return "read from MLflow, which does not know how the sweep was run: see its folder"
    return _unfinished(sweep)


def _unfinished(sweep: Sweep) -> str:
    """How many trials have not ended, in words; '' if all have."""
    waiting = int(sweep.trials["status"].isin(OPEN).sum())
    return f"{waiting} planned trials have not run to their end" if waiting else ""


def _said(value: Any) -> str:
    return "none" if value in (None, ()) else str(list(value) if isinstance(value, tuple) else value)


def _metric(sweep: Sweep) -> str:
    looks = [event for event in sweep.events if event["event"] == "look"]
    return str(looks[-1]["metric"]) if looks else sweep.shown_metric


def _rows(
    sweep: Sweep, stages: list[Mapping[str, Any]]
) -> tuple[dict[tuple[str, str], Comparison], dict[tuple[str, str], int]]:
    """Each comparison after its last look, in the latest stage that looked at it, and how many looks that
    stage has. Old journals have intervals that hold every possible difference; they are left out as today."""
    limits = of_differences(sweep.unit(_metric(sweep)).limits)
    found: dict[tuple[str, str], Comparison] = {}
    number: dict[tuple[str, str], int] = {}
    for stage in stages:
        for planned in stage["comparisons"]:
            key = planned["arm"], planned["against"]
            found.setdefault(key, Comparison(*key, note=NO_LOOK))
            number.setdefault(key, len(stage["looks"]))
        looks = [
            each for each in sweep.events if each["event"] == "look" and each["stage"] == stage["number"]
        ]
        for row in map(Comparison.read, looks[-1]["comparisons"]) if looks else ():
            if row.look:
                low, high = cut_ends((row.low, row.high), limits)
                found[row.arm_and_against] = _of_stage(replace(row, low=low, high=high), stage)
                number[row.arm_and_against] = len(stage["looks"])
            elif row.note:
                found[row.arm_and_against] = row
    return found, number


def _of_stage(row: Comparison, stage: Mapping[str, Any]) -> Comparison:
    """With a note on the extension that it is of."""
    if not stage["number"]:
        return row
    note = f"extension {stage['number']}, of its own seeds, at level {stage['level']:g}"
    return replace(row, note=f"{note}; {row.note}" if row.note else note)


def seeds_looked_at(sweep: Sweep) -> dict[str, set[int]]:
    """The seeds of each arm that the looks so far have seen; arms that no look has seen are left out."""
    found: dict[str, set[int]] = {}
    for event in sweep.events:
        for arm, seeds in event["arms"].items() if event["event"] == "look" else ():
            found.setdefault(arm, set()).update(seeds)
    return found
