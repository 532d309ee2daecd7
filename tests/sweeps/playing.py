"""Plans run by the controller in process: trials end in a random order, and the process may be killed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sweeps.decide.controller import Controller
from sweeps.plan.model import Plan
from sweeps.record.journal import Journal, read_journal
from sweeps.record.state import LOST, TrialState

Value = Callable[[str, int], float]
End = Callable[[Controller, TrialState], None]
EFFECTS = {"a": 0.5, "b": 0.8, "c": 0.5, "d": 0.45}
FOUR = {"model.kind": ["a", "b", "c", "d"]}
EIGHT = [1, 2, 3, 4, 5, 6, 7, 8]


def value(arm: str, seed: int) -> float:
    """The arm's truth, and noise of SD 0.02 that depends on arm and seed alone."""
    return EFFECTS[arm] + 0.02 * float(np.random.default_rng([ord(arm), seed]).normal())


def complete(controller: Controller, trial: TrialState, result: float) -> None:
    """The trial reports this accuracy and completes."""
    controller.report(trial.trial_id, {"step": 1, "samples": 100.0, "accuracy": result})
    controller.ended(trial.trial_id, "completed")


def play_with(end: End, plan: Plan, journal: Path, order: random.Random, kill: float = 0.0) -> Controller:
    """Run the plan to its end: `end` ends three trials at a time in a random order, and after each the
    process may be killed; then the next one goes on from the journal."""
    while True:
        writer = Journal(journal)
        controller = Controller(plan, writer, list(read_journal(journal)))
        controller.begin()
        running: list[str] = []
        while True:
            while len(running) < 3 and (trial := controller.next_trial(exclude=running)) is not None:
                controller.started(trial.trial_id)
                running.append(trial.trial_id)
            if not running or order.random() < kill:
                break
            end(controller, controller.state.trials[running.pop(order.randrange(len(running)))])
        writer.close()
        if not running:
            assert controller.finished
            return controller


def play(plan: Plan, journal: Path, order: random.Random, kill: float = 0.0, of: Value = value) -> Controller:
    """As `play_with`. `of(arm, seed)` is a trial's result; NaN: it diverges; infinite: its node dies."""

    def end(controller: Controller, trial: TrialState) -> None:
        result = of(trial.arm, trial.seed)
        if result == math.inf:
            controller.ended(trial.trial_id, "failed", "the node died", cause=LOST)
        elif math.isnan(result):
            controller.ended(trial.trial_id, "diverged", "accuracy is nan")
        else:
            complete(controller, trial, result)

    return play_with(end, plan, journal, order, kill)


def seeds_of(controller: Controller) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for trial in controller.state.trials.values():
        if trial.phase == "evidence":
            found.setdefault(trial.arm, []).append(trial.seed)
    return {arm: sorted(seeds) for arm, seeds in found.items()}
