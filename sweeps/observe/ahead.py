"""The trials that a sweep may still plan, from its state and sweep.yaml alone, without its trainer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sweeps.record.state import SweepState, TrialState, seeds_up_to
from sweeps.schedulers.registry import SCHEDULERS


def unplanned_trials(trials: Collection[TrialState], state: SweepState, space: Mapping[str, Any]) -> int:
    """The number of trials that may still be planned: draws that TPE has not made yet, and the evidence up to
    the last look. `trials` are those of the state, which may grow meanwhile in another thread; `space` is the
    content of sweep.yaml."""
    search = space["search"] if space.get("tune") else None
    kind = (space.get("scheduler") or {}).get("kind", "fifo")
    has_evidence = search is not None or not SCHEDULERS[kind].stops
    drawn: dict[str, set[int]] = {}
    untuned = set()  # arms to which no tuned value applies: they have one draw
    for trial in trials:
        if trial.phase == "search":
            drawn.setdefault(trial.arm, set()).add(trial.draw)
            if not trial.values:
                untuned.add(trial.arm)
    planned = {(trial.arm, trial.draw, trial.seed) for trial in trials}
    seeds = _seeds_ahead(state, space) if has_evidence else {}
    number = 0
    for arm in space["resolved"]["arms"]:
        draws, shown = len(drawn.get(arm, ())), [0]
        if search is not None:
            if search["algorithm"] == "tpe" and arm not in untuned:
                number += max(0, search["draws_per_arm"] - draws) * len(search["seeds"])
                draws = max(draws, search["draws_per_arm"])
            shown = state.selected.get(arm, [-1] * min(search["keep"], draws))  # -1: not selected yet
        number += sum((arm, draw, seed) not in planned for draw in shown for seed in seeds.get(arm, ()))
    return number


def _seeds_ahead(state: SweepState, space: Mapping[str, Any]) -> dict[str, set[int]]:
    """The seeds of each arm's evidence that are planned by now, or are if the arm stays open to the last
    look."""
    arms, stages = list(space["resolved"]["arms"]), state.stages
    seeds: dict[str, set[int]] = {arm: set() for arm in arms}
    if not stages:
        more = (space.get("evidence") or {}).get("baseline_seeds") or ()
        for arm in arms:
            seeds[arm].update(space["seeds"])
        if isinstance(more, list):
            seeds[space["resolved"].get("baseline", arms[0])].update(more)
        return seeds
    out = state.beaten() if (space.get("evidence") or {}).get("question") == "best" else set()
    for stage in stages:
        looks = [look for look in state.looks if look["stage"] == stage["number"]]
        rows = looks[-1]["comparisons"] if looks else [{}] * len(stage["comparisons"])
        for each, row in zip(stage["comparisons"], rows, strict=True):
            closed = stage is not stages[-1] or _is_closed(row) or bool({each["arm"], each["against"]} & out)
            for arm, listed in ((each["arm"], each["seeds"]), (each["against"], each["seeds_against"])):
                seeds[arm].update(seeds_up_to(row.get("look", 0), listed, stage) if closed else listed)
    return seeds


def _is_closed(row: Mapping[str, Any]) -> bool:
    if not row:
        return False
    from analysis.inference.decision import Comparison

    return Comparison.read(row).closed
