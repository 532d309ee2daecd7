"""Sweeps of evidence alone, run by the project's controller on given values, with their extensions.

The reference for `benchmarks.families`: the trials, looks and verdicts are those of a real sweep, and trials
end in a random order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.inference.decision import Comparison
from benchmarks.simulated import MemoryJournal, SimulatedPlan, make_plan
from sweeps.decide.controller import Controller
from sweeps.plan.model import TrialPlan

WORKERS = 5


def make_evidence_plan(arms: int, seeds: int, evidence: dict[str, Any], unit: str = "none") -> SimulatedPlan:
    """A baseline and `arms` - 1 others, at seeds 0 to `seeds` - 1; nothing is tuned or stopped early."""
    space = {
        "trainer": "benchmarks.simulated:train",
        "base": {"max_samples": 1000},
        "objective": {"metric": "accuracy", "mode": "max", "unit": unit},
        "ablate": {"mixer": [f"arm{place}" for place in range(arms)]},
        "scheduler": {"kind": "fifo"},
        "seeds": list(range(seeds)),
        "evidence": evidence,
    }
    return make_plan(space, {}, "evidence")


def run_by_controller(
    plans: Sequence[SimulatedPlan], runs: np.ndarray, rng: np.random.Generator
) -> tuple[list[Comparison], list[int]]:
    """The comparisons after the last of `plans`, each of which extends the one before, and the number of
    trials of each arm. `runs` [arms, seeds] are the values; NaN is a run that diverges."""
    history: list[Any] = []
    for plan in plans:
        journal = MemoryJournal()
        controller = Controller(plan, journal, history)
        controller.begin()
        place = {arm.name: index for index, arm in enumerate(plan.arms)}
        running: dict[str, TrialPlan] = {}
        while True:
            while len(running) < WORKERS and (trial := controller.next_trial(exclude=running)) is not None:
                controller.started(trial.trial_id)
                running[trial.trial_id] = trial
            if not running:
                break
            trial = running.pop(list(running)[rng.integers(len(running))])
            value = float(runs[place[trial.arm], trial.seed])
            metrics = {"step": 1, "samples": 1000, "accuracy": value}
            if math.isnan(value):
                controller.ended(trial.trial_id, "diverged", "accuracy is nan", metrics)
            elif controller.report(trial.trial_id, metrics):
                controller.ended(trial.trial_id, "completed")
        assert controller.finished
        history += journal.events
    trials = Counter(trial.arm for trial in controller.state.trials.values())
    return controller.state.comparisons, [trials[arm.name] for arm in plans[-1].arms]
