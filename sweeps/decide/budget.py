"""The trials, time and samples that a sweep has used over all its launches, against the limits in
`budget`."""

from __future__ import annotations

import math
import threading

from sweeps.record.journal import Event
from sweeps.record.state import ASKED
from sweeps.space.schema import Budget


class BudgetUsage:
    """Adds up usage from the journal's events (`apply`). Trials reused from other sweeps cost nothing.

    `wall_s` is the time, in seconds, during which a process worked on the sweep; `gpu_s` is GPUs x seconds
    held by running trials. Both count up to the last event. Threads may read while others write.
    """

    def __init__(self, limits: Budget) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.wall_s = 0.0
        self.gpu_s = 0.0
        self._last = 0.0  # time of the last event
        self._running: dict[str, float] = {}  # trial -> GPUs
        self._gpus = 0.0  # of all running trials
        self._samples: dict[str, float] = {}  # trial -> the highest `samples` that it has reported
        self._total_samples = 0.0

    def apply(self, event: Event) -> None:
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        name, now, trial_id = event["event"], event["time"], event.get("trial_id", "")
        if name in ("launch", "extend") or event.get("cause") == ASKED:
            self._running.clear()  # nothing ran since the last process ended
        else:
            self._pass_time(now)
        self._last = now
        match name:
            case "start" if not event.get("reused_from"):
                self._running[trial_id] = event["gpu"]
                self._samples.setdefault(trial_id, 0.0)
            case "report" if trial_id in self._samples:
                more = max(0.0, float(event.get("samples", 0.0)) - self._samples[trial_id])
                self._samples[trial_id] += more
                self._total_samples += more
            case "end" | "retry":
                self._running.pop(trial_id, None)
            case "finish":
                self._running.clear()
        if name not in ("trial", "report", "decision"):  # which change nothing here, and are most
            self._gpus = sum(self._running.values())

    def _pass_time(self, now: float) -> None:
        passed = max(0.0, now - self._last)
        self.wall_s += passed
        self.gpu_s += passed * self._gpus

    def spent(self, now: float) -> dict[str, float]:
        """Usage by the keys of `budget`, at the time `now` (seconds since 1970)."""
        with self._lock:
            passed = max(0.0, now - self._last)
            return {
                "trials": len(self._samples),
                "wall_h": (self.wall_s + passed) / 3600,
                "gpu_h": (self.gpu_s + passed * self._gpus) / 3600,
                "samples": self._total_samples,
            }

    def spent_so_far(self) -> dict[str, float]:
        """Usage by the keys of `budget`, up to the last event."""
        return self.spent(self._last)

    def samples_by_trial(self) -> dict[str, float]:
        """The highest number of samples that each trial has reported."""
        with self._lock:
            return dict(self._samples)

    def exhausted(self, now: float) -> str:
        """The reached limit at which all work stops, such as "wall_h: 12 of 12"; '' if none was reached."""
        spent, limits = self.spent(now), self._limits
        for name in ("wall_h", "gpu_h", "samples"):
            limit = getattr(limits, name)
            if limit is not None and spent[name] >= limit:
                return f"{name}: {spent[name]:.4g} of {limit:g}"
        return ""

    @property
    def trials_left(self) -> float:
        """How many more trials may start."""
        return math.inf if self._limits.trials is None else self._limits.trials - len(self._samples)

    @property
    def no_more_trials(self) -> str:
        """`trials`, such as "trials: 8 of 8", if no more trials may start (running ones continue); else
        ''."""
        return f"trials: {len(self._samples)} of {self._limits.trials}" if self.trials_left <= 0 else ""
