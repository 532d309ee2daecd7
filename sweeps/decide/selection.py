"""Which draws of an arm are the best, once its search has ended."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from sweeps.decide.judge import Decision
from sweeps.record.state import TrialState
from sweeps.space.schema import SweepSpec


def ranked(search: Iterable[TrialState], spec: SweepSpec, audited: Mapping[str, Decision]) -> list[int]:
    """An arm's draws, the best first, by the objective at the end of the search, averaged over its seeds.

    Those that were stopped come after those that ran to their end, the furthest first. A draw with a seed
    that diverged or failed is out. One that runs on for an audit counts as stopped where it was to stop:
    what it did afterwards chooses nothing.
    """
    metric = spec.objective.metric
    sign = 1.0 if spec.objective.mode == "max" else -1.0
    by_draw: dict[int, list[TrialState]] = {}
    for trial in search:
        by_draw.setdefault(trial.draw, []).append(trial)
    ranks = {}
    for draw, trials in by_draw.items():
        decision = audited.get(trials[0].member)
        last = [as_judged(trial, decision, spec.scheduler.time_attr) for trial in trials]
        fit = all(trial.status in ("completed", "pruned") for trial in trials)
        if fit and all(metric in values for values in last):
            score = statistics.fmean(sign * values[metric] for values in last)
            whole = decision is None and all(trial.status == "completed" for trial in trials)
            reached = 0.0 if whole else min(values["samples"] for values in last)
            ranks[draw] = (-whole, -reached, -score, draw)
    return sorted(ranks, key=lambda draw: ranks[draw])


def as_judged(trial: TrialState, decision: Decision | None, time_attr: str) -> Mapping[str, float]:
    """Each metric's last value; for a member that was to stop, as they were at that rung."""
    if decision is None:
        return trial.last
    last: dict[str, float] = {}
    for step in sorted(trial.reports):
        last |= trial.reports[step]
        if last.get(time_attr, 0) >= decision.rung:
            break
    return last
