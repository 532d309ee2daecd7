"""Folders of sweeps whose trials were played by hand; the real controller decided search and evidence."""

from __future__ import annotations

import math
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.decide.controller import Controller
from sweeps.plan.build import load_plan
from sweeps.plan.model import Plan
from sweeps.record.folder import write_space
from sweeps.record.state import TrialState, read_state
from sweeps.record.tables import write_results
from tests.sweeps.playing import EIGHT, FOUR, Value, play, play_with, value
from tests.sweeps.spaces import toy_plan


def played(folder: Path, of: Value = value, **changes: Any) -> Path:
    """The results of the toy trainer's space with these changes, by default four arms on eight seeds.

    `of(arm, seed)` is a trial's last value; NaN: it diverges. Results that are in `folder` already are
    extended.
    """
    plan = toy_plan(folder, **{"ablate": FOUR, "seeds": EIGHT, **changes})
    results = folder / "results" / plan.spec.name
    results.mkdir(parents=True, exist_ok=True)
    extended = (results / "sweep.yaml").exists()
    play(plan, results / "journal.jsonl", random.Random(0), of=of)
    return _written(plan, results, extended)


def played_space(folder: Path, space: Path) -> Path:
    """Made-up results of a search space of TRM, with its own arms, rules and early stopping."""
    plan = load_plan(space)
    results = folder / plan.spec.name
    results.mkdir(parents=True)
    arms = {arm.name: (i, arm) for i, arm in enumerate(plan.arms)}

    def end(controller: Controller, trial: TrialState) -> None:
        place, arm = arms[trial.arm]
        luck = np.random.default_rng(zlib.crc32(trial.trial_id.encode())).normal(0, 0.03)
        final = float(np.clip(0.5 + 0.06 * place + luck - 0.05 * trial.draw, 0, 1))
        horizon = arm.horizon or 1000.0
        for step in range(1, 11):
            share = final / (1 + math.exp(4 - step))
            report = {"step": step, "samples": horizon * step / 10, "wall_s": 1.5 * step}
            report |= {"flops": report["samples"] * (arm.flops_per_sample or 0), "train/loss": 2 - share}
            report |= {"val/exact_accuracy": share, "val/cell_accuracy": 0.4 + 0.6 * share}
            report |= {"train/exact_accuracy": (1 + share) / 2}
            if step == 10:
                report["test/exact_accuracy"] = share - 0.01
            if not controller.report(trial.trial_id, report):
                return
        controller.ended(trial.trial_id, "completed")

    play_with(end, plan, results / "journal.jsonl", random.Random(0))
    return _written(plan, results)


def _written(plan: Plan, results: Path, extended: bool = False) -> Path:
    """The tables of what was played."""
    space = write_space(plan, results, data="", extended=extended)
    write_results(results, read_state(results / "journal.jsonl"), space)
    return results
