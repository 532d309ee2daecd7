"""Pools of members with known curves, for tests of schedulers and of who applies them."""

from __future__ import annotations

from sweeps.decide.judge import Judge
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
            judge.on_report("pool", member, [member], member, {"samples": 10 * index, "acc": value})
    return set(judge.stopped)
