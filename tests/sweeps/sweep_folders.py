"""Sweeps' folders as a launch leaves them, their trials played by hand: no Ray."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.decide.controller import Controller
from sweeps.record.folder import write_space
from sweeps.record.journal import Journal, read_journal
from sweeps.record.tables import write_results
from tests.sweeps.playing import complete
from tests.sweeps.spaces import toy_plan

HEIGHTS = {"a": 0.4, "b": 0.9, "c": 0.6, "d": 0.2}
FAILS = "fails"

Result = Callable[[str, int], float | str]  # of an arm and a seed; NaN: it diverges; FAILS: it fails for good


def height(arm: str, seed: int) -> float:
    """The toy trainer's results."""
    return HEIGHTS.get(arm, 0.5) + seed / 1000


class Played:
    """A launch of a sweep in `storage`/NAME, or its continuation."""

    def __init__(self, storage: Path, **changes: Any) -> None:
        storage.mkdir(exist_ok=True)
        plan = toy_plan(storage, **changes)
        self.folder = storage / plan.spec.name
        self.folder.mkdir(exist_ok=True)
        self._space = write_space(plan, self.folder, data="", extended=False)
        path = self.folder / "journal.jsonl"
        self._journal = Journal(path)
        self.controller = Controller(plan, self._journal, list(read_journal(path)))
        self.controller.begin(version="0.1.0")

    def run(self, number: int = 10**6, of: Result = height) -> Played:
        """Run the next trials, at most `number`, one after the other."""
        for _ in range(number):
            trial = self.controller.next_trial()
            if trial is None:
                break
            self.controller.started(trial.trial_id)
            result = of(trial.arm, trial.seed)
            if isinstance(result, str):
                self.controller.ended(trial.trial_id, "failed", "the toy broke")
            elif math.isnan(result):
                self.controller.ended(trial.trial_id, "diverged", "accuracy is nan at step 1")
            else:
                complete(self.controller, self.controller.state.trials[trial.trial_id], result)
        return self

    def start(self) -> str:
        """Start the next trial, and leave it running. Returns its id."""
        trial = self.controller.next_trial()
        assert trial is not None
        self.controller.started(trial.trial_id)
        return trial.trial_id

    def finish(self, ending: str = "") -> Path:
        """End the launch in order. Returns the sweep's folder."""
        self.controller.finish(ending or ("completed" if self.controller.finished else "interrupted"))
        write_results(self.folder, self.controller.state, self._space)
        return self.end()

    def end(self) -> Path:
        """End it as a kill does."""
        self._journal.close()
        return self.folder
