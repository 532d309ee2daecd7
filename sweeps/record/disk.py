"""`max_checkpoint_gb`: a limit for a sweep's checkpoints. Those of ended trials are deleted, worst first."""

from __future__ import annotations

import logging
import math
import queue
import threading

import fsspec

from sweeps.record.journal import Event
from sweeps.record.state import SweepState, TrialState
from sweeps.space.schema import SweepSpec

JOIN_S = 60.0  # how long the end of a launch waits for the deletions in progress

logger = logging.getLogger(__name__)


class DiskBudget:
    """A listener of the journal: deletes checkpoints when a trial has ended and the limit is exceeded.

    `checkpoints` is the folder or URL of the sweep's checkpoints. Checkpoints of trials that have not ended
    are never deleted, so these alone may exceed the limit. The sizes of all running trials are looked up,
    which takes a while at a URL: a thread does it, and only the launch's `finish` event waits for it.
    """

    def __init__(self, checkpoints: str, spec: SweepSpec, state: SweepState) -> None:
        assert spec.max_checkpoint_gb is not None
        self._fs, self._folder = fsspec.core.url_to_fs(checkpoints)
        self._max_bytes = spec.max_checkpoint_gb * 1e9
        self._objective = spec.objective
        self._state = state
        self._sizes: dict[str, int] = {}  # bytes of each ended trial: these no longer change
        self._priorities: dict[str, tuple[bool, bool, float]] = {}  # of those that have bytes
        self._ended: queue.SimpleQueue[TrialState | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        if event["event"] == "end":
            if self._thread is None:
                for trial in self._state.trials.values():  # those of earlier launches too
                    self._note(trial)
                self._thread = threading.Thread(target=self._work, name="disk", daemon=True)
                self._thread.start()
            else:
                self._note(self._state.trials[event["trial_id"]])
        elif event["event"] == "finish" and self._thread is not None:
            self._ended.put(None)
            self._thread.join(JOIN_S)
            self._thread = None

    def _note(self, trial: TrialState) -> None:
        if trial.ended and trial.attempts:
            self._ended.put(trial)

    def _work(self) -> None:
        waiting: list[TrialState | None] = []
        while None not in waiting[-1:]:
            waiting.append(self._ended.get())
            while not self._ended.empty():  # many may have ended meanwhile
                waiting.append(self._ended.get())
            try:
                self._fs.invalidate_cache()
                for trial in waiting:
                    if trial is not None:
                        self._add(trial)
                self._make_room()
                waiting = waiting[-1:]
            except Exception as error:  # each store raises its own kinds
                logger.warning("checkpoints: none could be deleted (%s)", error)

    def _add(self, trial: TrialState) -> None:
        if trial.trial_id not in self._sizes:
            self._sizes[trial.trial_id] = self._bytes(trial.trial_id)
            self._priorities[trial.trial_id] = self._priority(trial)

    def _make_room(self) -> None:
        running = [name for name, trial in list(self._state.open.items()) if trial.attempts]
        excess = sum(self._sizes.values()) + sum(map(self._bytes, running)) - self._max_bytes
        if excess <= 0:
            return
        for name in sorted(self._priorities, key=self._priorities.__getitem__):
            if excess <= 0:
                return
            if self._sizes[name]:
                self._fs.rm(f"{self._folder}/{name}", recursive=True)
                logger.info("checkpoints of %s deleted, to stay below %.3g bytes", name, self._max_bytes)
            excess -= self._sizes[name]
            self._sizes[name] = 0
            del self._priorities[name]
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
