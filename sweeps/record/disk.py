"""`max_checkpoint_gb`: a limit for a sweep's checkpoints. Those of ended trials are deleted, worst first."""

from __future__ import annotations

import logging
import math

import fsspec

from sweeps.record.journal import Event
from sweeps.record.state import SweepState, TrialState
from sweeps.space.schema import SweepSpec

logger = logging.getLogger(__name__)


class DiskBudget:
    """A listener of the journal: deletes checkpoints when a trial has ended and the limit is exceeded.

    `checkpoints` is the folder or URL of the sweep's checkpoints. Checkpoints of trials that have not ended
    are never deleted, so these alone may exceed the limit.
    """

    def __init__(self, checkpoints: str, spec: SweepSpec, state: SweepState) -> None:
        assert spec.max_checkpoint_gb is not None
        self._fs, self._folder = fsspec.core.url_to_fs(checkpoints)
        self._max_bytes = spec.max_checkpoint_gb * 1e9
        self._objective = spec.objective
        self._state = state
        self._sizes: dict[str, int] = {}  # bytes of each ended trial: these no longer change

    def __call__(self, event: Event) -> None:
        if event["event"] == "end":
            try:
                self._make_room()
            except Exception as error:  # each store raises its own kinds
                logger.warning("checkpoints: none could be deleted (%s)", error)

    def _make_room(self) -> None:
        self._fs.invalidate_cache()
        for trial in self._state.trials.values():
            if trial.ended and trial.attempts and trial.trial_id not in self._sizes:
                self._sizes[trial.trial_id] = self._bytes(trial.trial_id)
        used = sum(self._sizes.values()) + sum(
            self._bytes(name) for name, trial in self._state.open.items() if trial.attempts
        )
        excess = used - self._max_bytes
        for trial in sorted((self._state.trials[name] for name in self._sizes), key=self._priority):
            if excess <= 0:
                return
            if self._sizes[trial.trial_id]:
                self._fs.rm(f"{self._folder}/{trial.trial_id}", recursive=True)
            excess -= self._sizes[trial.trial_id]
            self._sizes[trial.trial_id] = 0
            logger.info(
                "checkpoints of %s deleted, to stay below %.3g bytes", trial.trial_id, self._max_bytes
            )
        if excess > 0:
            logger.warning("checkpoints: running trials alone exceed max_checkpoint_gb by %.3g bytes", excess)

    def _priority(self, trial: TrialState) -> tuple[bool, bool, float]:
        """A sort key, deleted first to last: completed trials last, then evidence, then the better
        objective."""
        best = trial.best(self._objective.metric, self._objective.mode)
        value = -math.inf if best is None else best[0] if self._objective.mode == "max" else -best[0]
        return trial.status == "completed", trial.phase == "evidence", value

    def _bytes(self, trial_id: str) -> int:
        path = f"{self._folder}/{trial_id}"
        for _ in range(2):  # a running trial may replace its checkpoint during the count
            try:
                return int(self._fs.du(path)) if self._fs.exists(path) else 0
            except FileNotFoundError:
                continue
        return 0
