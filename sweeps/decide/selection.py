"""Ranks the draws of each arm after its search, to select those that are repeated as evidence."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.decide.judge import Decision
from sweeps.decide.surface import expected_results, unit_cube
from sweeps.record.state import TrialState
from sweeps.space.schema import SweepSpec

FEWEST_TO_SMOOTH = 8  # completed draws of an arm


@dataclass(frozen=True)
class DrawResult:
    """What a draw came to: `score` is higher for a better one. For a completed draw it is the last value of
    the objective, averaged over its seeds; for a stopped one the value that it was judged by.

    `completed` is False if the scheduler stopped the draw, or would have and audits it.
    """

    draw: int
    values: Mapping[str, Any]
    score: float
    completed: bool


def ranked(
    search: Iterable[TrialState], spec: SweepSpec, decisions: Mapping[str, Decision]
) -> list[DrawResult]:
    """The results of an arm's draws, best first. `decisions` are those to stop, by member.

    Completed draws come before stopped ones. Stopped ones are compared as the scheduler compared them: those
    that came to a higher rung first, then by the judged metric at that rung; how far a draw ran past its rung
    before it heard, and an objective that may still be 0, say nothing. An audited draw (one that the
    scheduler would have stopped, but that runs on as a check) counts as stopped: its later reports do not
    influence the selection. A draw with a diverged or failed seed is left out; one that lost a seed with its
    node is judged by the others.
    """
    metric, sign = spec.objective.metric, _sign(spec.objective.mode)
    ranks = []
    for draw, trials in by_draw(search).items():
        decision = decisions.get(trials[0].member)
        is_audited = decision is not None and decision.action == "audit"
        if not all(trial.status in ("completed", "pruned") for trial in trials):
            continue
        if not is_audited and all(trial.status == "completed" for trial in trials):
            score = statistics.fmean(sign * trial.last[metric] for trial in trials)
            ranks.append(((False, 0.0, -score, draw), DrawResult(draw, trials[0].values, score, True)))
        elif decision is not None:
            score = _sign(spec.scheduler.mode) * decision.value
            result = DrawResult(draw, trials[0].values, score, False)
            ranks.append(((True, -decision.rung, -score, draw), result))
    return [result for _, result in sorted(ranks, key=lambda each: each[0])]


def by_draw(search: Iterable[TrialState]) -> dict[int, list[TrialState]]:
    """The trials of each draw, without those that were lost with their node: a draw of which nothing else is
    left is none."""
    found: dict[int, list[TrialState]] = {}
    for trial in search:
        if not trial.is_lost:
            found.setdefault(trial.draw, []).append(trial)
    return found


def _sign(mode: str | None) -> float:
    return 1.0 if mode == "max" else -1.0


def smoothed(arms: Mapping[str, list[DrawResult]], spec: SweepSpec) -> dict[str, list[DrawResult]]:
    """The ranked results of the arms with their completed draws in the order of what is expected of each, by
    one surface over all arms. An arm with fewer than FEWEST_TO_SMOOTH completed draws is left out."""
    completed = {arm: [each for each in results if each.completed] for arm, results in arms.items()}
    fitted = {arm: results for arm, results in completed.items() if len(results) >= FEWEST_TO_SMOOTH}
    if not fitted:
        return {}
    expected = expected_results(
        [unit_cube([each.values for each in results], spec.tune) for results in fitted.values()],
        [np.array([each.score for each in results]) for results in fitted.values()],
    )
    found = {}
    for (arm, results), values in zip(fitted.items(), expected, strict=True):
        value_of = {each.draw: value for each, value in zip(results, values.tolist(), strict=True)}
        # Stopped draws, and equal ones, keep their order: the sort is stable.
        found[arm] = sorted(arms[arm], key=lambda each: (not each.completed, -value_of.get(each.draw, 0.0)))
    return found
