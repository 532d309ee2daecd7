"""Ranks the draws of an arm after its search, to select those that are repeated as evidence."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from sweeps.decide.judge import Decision
from sweeps.record.state import TrialState
from sweeps.space.schema import SweepSpec


def ranked(search: Iterable[TrialState], spec: SweepSpec, audited: Mapping[str, Decision]) -> list[int]:
    """The indices of an arm's draws, best first, by the last value of the objective, averaged over seeds.

    Completed draws come before stopped ones; of the stopped ones those that trained longest come first. A
    draw with a diverged or failed seed is left out. An audited draw (one that the scheduler would have
    stopped, but that runs on as a check) counts as stopped at its rung: its later reports do not influence
    the selection.
    """
    metric = spec.objective.metric
    sign = 1.0 if spec.objective.mode == "max" else -1.0
    by_draw: dict[int, list[TrialState]] = {}
    for trial in search:
        by_draw.setdefault(trial.draw, []).append(trial)
    ranks = {}
    for draw, trials in by_draw.items():
        decision = audited.get(trials[0].member)
        last = [metrics_as_judged(trial, decision, spec.scheduler.time_attr) for trial in trials]
        is_valid = all(trial.status in ("completed", "pruned") for trial in trials)
        if is_valid and all(metric in values for values in last):
            score = statistics.fmean(sign * values[metric] for values in last)
            completed = decision is None and all(trial.status == "completed" for trial in trials)
            samples = 0.0 if completed else min(values["samples"] for values in last)
            ranks[draw] = (-completed, -samples, -score, draw)
    return sorted(ranks, key=lambda draw: ranks[draw])


def metrics_as_judged(trial: TrialState, decision: Decision | None, time_attr: str) -> Mapping[str, float]:
    """Each metric's last value; with a decision to stop, the last value up to that decision's rung."""
    if decision is None:
        return trial.last
    last: dict[str, float] = {}
    for step in sorted(trial.reports):
        last |= trial.reports[step]
        if last.get(time_attr, 0) >= decision.rung:
            break
    return last
