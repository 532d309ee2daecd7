"""A byte budget for a sweep's checkpoints: those of ended trials go first, the worst first."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

from sweeps.journal import Event
from sweeps.spec import SweepSpec
from sweeps.state import SweepState, TrialState

logger = logging.getLogger(__name__)


class DiskBudget:
    """Hears the journal (call it with each event), and makes room whenever a trial has ended.

    Nothing that a trial may still go on from is ever deleted, so trials that run may exceed the budget.
    """

    def __init__(self, folder: Path, spec: SweepSpec, state: SweepState) -> None:
        assert spec.max_checkpoint_gb is not None
        self._folder = folder
        self._max_bytes = spec.max_checkpoint_gb * 1e9
        self._objective = spec.objective
        self._state = state
        self._sizes: dict[str, int] = {}  # of trials that have ended: they change no more

    def __call__(self, event: Event) -> None:
        if event["event"] == "end":
            try:
                self._make_room()
            except OSError as error:
                logger.warning("checkpoints: no room could be made (%s)", error)

    def _make_room(self) -> None:
        for trial in self._state.trials.values():
            if trial.ended and trial.trial_id not in self._sizes:
                self._sizes[trial.trial_id] = _bytes(self._folder / trial.trial_id)
        used = sum(self._sizes.values()) + sum(_bytes(self._folder / name) for name in self._state.open)
        excess = used - self._max_bytes
        for trial in sorted((self._state.trials[name] for name in self._sizes), key=self._worth):
            if excess <= 0:
                return
            shutil.rmtree(self._folder / trial.trial_id, ignore_errors=True)
            excess -= self._sizes[trial.trial_id]
            self._sizes[trial.trial_id] = 0
            logger.info(
                "checkpoints of %s deleted, to stay below %.3g bytes", trial.trial_id, self._max_bytes
            )
        if excess > 0:
            logger.warning("checkpoints: running trials alone exceed max_checkpoint_gb by %.3g bytes", excess)

    def _worth(self, trial: TrialState) -> tuple[bool, bool, float]:
        """Completed trials over others, evidence over search, then by the objective."""
        best = trial.best(self._objective.metric, self._objective.mode)
        value = -math.inf if best is None else best[0] if self._objective.mode == "max" else -best[0]
        return trial.status == "completed", trial.phase == "evidence", value


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # a running trial replaces its checkpoints all the time
            continue
    return total
