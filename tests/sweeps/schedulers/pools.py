"""Pools of members with known curves, for tests of schedulers and of who applies them."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.decide.judge import Decision, Judge
from sweeps.schedulers.registry import SCHEDULERS
from sweeps.space.schema import SchedulerSpec

STOPPING = [kind for kind, scheduler in SCHEDULERS.items() if scheduler.stops]


def judge_of(kind: str, mode: str = "max", **changes: object) -> Judge:
    """By a scheduler with its own keys at their defaults, a first rung at 10 and an end at 100."""
    keys = {"grace_period": 10, "max_t": 100, "metric": "acc"} | changes
    return Judge(SchedulerSpec.model_validate({"kind": kind, "mode": mode, **keys}))


def run(judge: Judge, curves: dict[str, list[float]], order: list[str] | None = None) -> set[str]:
    """Feed whole curves (a value at samples 10, 20, ...) member by member; returns who was stopped."""
    for member in order or list(curves):
        for index, value in enumerate(curves[member], start=1):
            if member in judge.stopped:
                break
            report(judge, "pool", member, {"samples": 10 * index, "acc": value})
    return set(judge.stopped)


def report(
    judge: Judge,
    pool: str,
    trial: str,
    metrics: dict[str, float],
    member: str = "",
    seeds: Sequence[str] = (),
) -> list[Decision]:
    """What is decided at a report of this trial, which is its member's only one unless others are named."""
    arrivals = judge.reported(pool, member or trial, seeds or [trial], trial, metrics)
    return judge.decide(arrivals)


def diverge(judge: Judge, pool: str, member: str) -> list[Decision]:
    """What is decided when the member's only trial diverges."""
    return judge.decide(judge.diverged(pool, member, [member], member))
