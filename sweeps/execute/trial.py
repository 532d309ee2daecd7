"""One trial inside its worker: the trainer's function runs in a thread, and hands over one report at a time.

`execute.worker` makes a TrialHandle for each trial. The trainer sees it as `trial`. Its thread waits inside
`trial.report` until the worker asks for the next report, so that a stopped trial does not train any further.
The handle writes checkpoints (`record.checkpoints`, `record.remote_checkpoints`) and the trial's log
(`execute.trial_log`).
"""

from __future__ import annotations

import errno
import faulthandler
import json
import math
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeps.execute.failure import outcome_of, reason_of, silence_reason
from sweeps.execute.reports import checked
from sweeps.execute.surroundings import restored
from sweeps.execute.trial_log import TrialLog
from sweeps.execute.warned import TrialWarnings
from sweeps.plan.trainer import import_trainer
from sweeps.record.checkpoints import Source
from sweeps.record.remote_checkpoints import UploadFailed, checkpoint_store

CHECK_S = 1.0  # how often a log that grows is looked at between two reports
STOP_S = 60.0  # how long a trainer that is stopped may clean up
EXIT_S = 5.0  # after max_silence_s, until the process ends whatever its threads do


class StopTrial(BaseException):
    """Raised in `report` to end the trainer. Not an Exception, so that `except Exception` does not catch
    it."""


@dataclass(frozen=True)
class Payload:
    """All that a worker needs to run a trial. It is passed as one JSON string, as Ray would resolve values in
    a dict.

    `checkpoints` is the trial's folder or URL, `log` the file of its log; `metric` and `mode` are the
    objective's; `factors` and `tuned` are names that no metric may have; `cpu` and `gpu` are the trial's
    resources, and `nodes` the ids of the nodes on which it may run.
    """

    trial_id: str
    trainer: str
    config: dict[str, Any]
    seed: int
    checkpoints: str
    log: str
    metric: str
    mode: str
    cpu: float
    gpu: float
    nodes: list[str] = field(default_factory=list)
    attempt: int = 1
    journal_step: int = -1  # the last step that the journal has a report of
    is_measured: bool = False  # `gpu` follows from measured memory, and can be enlarged
    max_silence_s: float | None = None  # the longest time without a report
    factors: list[str] = field(default_factory=list)
    tuned: list[str] = field(default_factory=list)
    sys_path: list[str] = field(default_factory=list)

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Payload:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Report:
    """One report from the trainer's thread. The last one has the `outcome`: completed, diverged, or a failure
    (failed, misused, out_of_memory or lost) with its reason and the end of the trial's log."""

    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str = ""
    reason: str = ""
    log: str = ""
    repeated: bool = False  # read from the resumed checkpoint, because the journal lacks it
    warnings: list[str] = field(default_factory=list)

    @property
    def is_failure(self) -> bool:
        return self.outcome not in ("", "completed", "diverged")


class TrialHandle:
    """The `trial` that a trainer sees: `seed`, `device`, `checkpoint`, `report` and `saves_in_place`.

    `checkpoint` is the directory to resume from, or None. `next` and `stop` are for the worker.
    """

    saves_in_place = True  # whether `report` takes a function for a checkpoint

    def __init__(self, payload: Payload, device: str) -> None:
        self.seed = payload.seed
        self.device = device
        self.checkpoint: Path | None = None
        self._payload = payload
        self._store = checkpoint_store(payload.checkpoints, payload.metric, payload.mode)
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._turn = threading.Semaphore(0)
        self._blocked = False  # whether the thread waits in `report`
        self._stopped = False
        self._last_step = -1.0  # of this attempt
        self._warnings = TrialWarnings(f"logs/{Path(payload.log).name}")
        self._log = TrialLog(Path(payload.log), payload.attempt)
        self._thread = threading.Thread(target=self._run, daemon=True)
        with self._log.capturing(), self._warnings.collecting():
            latest = self._store.latest()
        self._history: list[dict[str, float]] = []  # all reports so far, including those before a resume
        if latest is not None:
            self.checkpoint, self._history = latest
            for metrics in self._history:
                if metrics["step"] > payload.journal_step:
                    self._reports.put(Report(metrics, repeated=True))

    def report(self, metrics: Mapping[str, float], checkpoint: str | Source | None = None) -> None:
        """Report metrics, which must include `step` and `samples`, and optionally a checkpoint: a directory,
        which is copied before this returns, or a function that writes one, as `CheckpointStore.commit` says.

        Does not return if the trial is stopped, or if a metric is not finite (the trial has diverged). Raises
        WrongReport, a ValueError, for what `execute.reports` does not accept; the trial then fails.
        """
        payload = self._payload
        values = checked(metrics, self._last_step, payload.factors, payload.tuned)
        self._last_step = values["step"]
        bad = sorted(name for name, value in values.items() if not math.isfinite(value))
        if bad:
            reason = f"{bad[0]} is {values[bad[0]]} at step {values['step']:g}"
            warnings = self._warnings.take()
            self._reports.put(Report(values, outcome="diverged", reason=reason, warnings=warnings))
            raise StopTrial
        self._history.append(values)
        if checkpoint is not None and (problem := self._save(checkpoint)):
            print(problem, file=sys.stderr)  # into the log
            self._warnings.add(problem)
        self._reports.put(Report(values, warnings=self._warnings.take()))
        self._turn.acquire()
        if self._stopped:
            raise StopTrial

    def _save(self, checkpoint: str | Source) -> str:
        """Store the checkpoint. Returns a warning, and the trial continues, if the disk is full or the upload
        failed; else ''. Raises other errors."""
        try:
            source = Path(checkpoint) if isinstance(checkpoint, str | os.PathLike) else checkpoint
            self._store.commit(source, self._history)
        except UploadFailed as error:
            return f"step {self._history[-1]['step']:g} has no checkpoint: {error}"
        except Exception as error:
            reason = _disk_full_reason(error)
            if not reason:
                raise
            return f"step {self._history[-1]['step']:g} has no checkpoint: {reason}"
        return ""

    # Called by the worker

    def _run(self) -> None:
        payload = self._payload
        try:
            with self._log.capturing(), restored(), self._warnings.collecting():
                loaded = import_trainer(payload.trainer)
                loaded.function(loaded.config_model.model_validate(payload.config), self)
        except StopTrial:
            return
        except BaseException as error:
            self._log.write("".join(traceback.format_exception(error)))
            begins_on_gpu = payload.gpu > 0 and self._last_step < 0
            outcome = outcome_of(error, payload.is_measured, begins_on_gpu)
            report = Report({}, outcome, reason_of(error), self._log.last_lines())
        else:
            report = Report(outcome="completed")
        self._reports.put(replace(report, warnings=self._warnings.take()))

    def next(self) -> Report:
        """Let the trainer run in its thread up to its next report, and return that.

        A trainer that does not report for `max_silence_s` has failed. Its thread cannot be ended: end the
        process. If that thread keeps Python from running at all, the process ends by itself.
        """
        limit = self._payload.max_silence_s
        if limit is not None:  # before the trainer runs: it may never let this thread run again
            faulthandler.dump_traceback_later(limit + EXIT_S, exit=True, file=self._log.descriptor)
        try:
            if self._thread.ident is None:
                self._thread.start()
            elif self._blocked:
                self._turn.release()
            report = self._wait(math.inf if limit is None else limit)
        finally:
            if limit is not None:
                faulthandler.cancel_dump_traceback_later()
        self._blocked = not report.repeated and not report.outcome
        return report

    def _wait(self, limit: float) -> Report:
        deadline = time.monotonic() + limit
        while True:
            self._log.trim()
            left = deadline - time.monotonic()
            try:
                return self._reports.get(timeout=max(0.0, min(CHECK_S, left)))
            except queue.Empty:
                if left <= 0:
                    return self._silent(limit)

    def _silent(self, limit: float) -> Report:
        """The trial's end after a silence. All threads' stacks go into the log, the trainer's last."""
        faulthandler.dump_traceback(self._log.descriptor)
        stack = traceback.format_stack(sys._current_frames().get(self._thread.ident or 0))
        self._log.write(f"{silence_reason(limit)}; the trainer is at:\n{''.join(stack)}")
        log, warnings = self._log.last_lines(), self._warnings.take()
        return Report({}, "failed", silence_reason(limit), log, warnings=warnings)

    def stop(self) -> bool:
        """End the thread. It must be waiting inside `report`, or have ended. Returns whether it has ended
        within STOP_S: a trainer may go on after the StopTrial that `report` raises."""
        self._stopped = True
        self._turn.release()
        self._thread.join(timeout=STOP_S)
        if self._thread.is_alive():
            return False
        self._log.close()
        return True


def _disk_full_reason(error: BaseException | None) -> str:
    """The system's message if the error is, or comes from, a full disk or an exceeded quota; '' otherwise."""
    reasons = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT)]
    while error is not None:  # torch.save raises a RuntimeError in the place of the file's own error
        for reason in reasons:
            if isinstance(error, OSError) and reason in str(error):  # copytree's error has no errno
                return reason
        error = error.__cause__ or error.__context__
    return ""
