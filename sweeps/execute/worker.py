"""One trial in a Ray worker: the trainer's function runs in a thread, and returns one report for each Ray
step.

`execute.tuner` starts a TrialActor for each trial. The actor imports the trainer (`plan.trainer`) and runs it
with a TrialHandle, the `trial` that the trainer sees, which writes checkpoints (`record.checkpoints`,
`record.storage`). The thread waits inside `trial.report` until Ray asks for the next step, so that a stopped
trial does not train any further. Workers are reused for later trials (`reset_config`), so that torch is
imported only once per worker.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import json
import logging
import math
import os
import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from sweeps.plan.trainer import import_trainer
from sweeps.record.checkpoints import UploadFailed
from sweeps.record.storage import checkpoint_store
from sweeps.space.names import RESERVED, name_problem, same_name


class StopTrial(BaseException):
    """Raised in `report` to end the trainer. Not an Exception, so that `except Exception` does not catch
    it."""


@dataclass(frozen=True)
class Payload:
    """All that a worker needs to run a trial. It is passed as one JSON string, as Ray would resolve values in
    a dict.

    `checkpoints` is the trial's folder or URL, `log` the file for a traceback; `metric` and `mode` are the
    objective's; `factors` and `tuned` are names that no metric may have; `cpu` and `gpu` are the trial's
    resources.
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
    journal_step: int = -1  # the last step that the journal has a report of
    is_measured: bool = False  # `gpu` follows from measured memory, and limits the memory of the trial
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
    """One report from the trainer's thread. The last one has the `outcome`: completed, diverged or failed."""

    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str = ""
    reason: str = ""
    repeated: bool = False  # read from the resumed checkpoint, because the journal lacks it
    warning: str = ""
    error: BaseException | None = None


class _Warnings(logging.Handler):
    """Collects the warnings that the trainer's thread logs, each once. The next report carries them, as
    nobody reads the worker's own log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._seen: set[str] = set()
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage().partition("\n")[0]
        if record.thread == self._thread and line not in self._seen:
            self._seen.add(line)
            self._waiting.append(line)

    def take(self) -> list[str]:
        """The warnings since the last call, the first line of each."""
        taken, self._waiting = self._waiting, []
        return taken


class TrialHandle:
    """The `trial` that a trainer sees: `seed`, `device`, `checkpoint` and `report`.

    `checkpoint` is the directory to resume from, or None. `start`, `next` and `stop` are for the worker.
    """

    def __init__(self, payload: Payload, device: str) -> None:
        self.seed = payload.seed
        self.device = device
        self.checkpoint: Path | None = None
        self._factors, self._tuned = payload.factors, payload.tuned
        self._store = checkpoint_store(payload.checkpoints, payload.metric, payload.mode)
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._turn = threading.Semaphore(0)
        self._blocked = False  # whether the thread waits in `report`
        self._stopped = False
        self._warnings: _Warnings | None = None  # set by the thread while it runs
        latest = self._store.latest()
        self._history: list[dict[str, float]] = []  # all reports so far, including those before a resume
        if latest is not None:
            self.checkpoint, self._history = latest
            for metrics in self._history:
                if metrics["step"] > payload.journal_step:
                    self._reports.put(Report(metrics, repeated=True))

    def report(self, metrics: Mapping[str, float], checkpoint: str | Path | None = None) -> None:
        """Report metrics, which must include `step` and `samples`, and optionally a checkpoint directory,
        which is copied before this returns.

        Does not return if the trial is stopped, or if a metric is not finite (the trial has diverged). Raises
        ValueError for a missing or misnamed metric.
        """
        values = {name: float(value) for name, value in metrics.items()}
        missing = {"step", "samples"} - values.keys()
        if missing:
            raise ValueError(f"trial.report needs {sorted(missing)} among its metrics; got {sorted(values)}")
        for name in values:
            why = name_problem(name, RESERVED)
            if not why and name in {*self._factors, *self._tuned}:
                why = same_name(name, self._factors)
            if why:
                raise ValueError(f"trial.report: the metric {name!r} {why}")
        bad = sorted(name for name, value in values.items() if not math.isfinite(value))
        if bad:
            reason = f"{bad[0]} is {values[bad[0]]} at step {values['step']:g}"
            self._reports.put(Report(values, outcome="diverged", reason=reason))
            raise StopTrial
        self._history.append(values)
        warnings = [] if self._warnings is None else self._warnings.take()
        if checkpoint is not None and (problem := self._save(Path(checkpoint))):
            warnings.append(problem)
        self._reports.put(Report(values, warning="; ".join(warnings)))
        self._turn.acquire()
        if self._stopped:
            raise StopTrial

    def _save(self, checkpoint: Path) -> str:
        """Store the checkpoint. Returns a warning, and the trial continues, if the disk is full or the upload
        failed; else ''. Raises other OSErrors."""
        try:
            self._store.commit(checkpoint, self._history)
        except UploadFailed as error:
            return f"step {self._history[-1]['step']:g} has no checkpoint: {error}"
        except OSError as error:
            reason = _disk_full_reason(error)
            if not reason:
                raise
            return f"step {self._history[-1]['step']:g} has no checkpoint: {reason}"
        return ""

    # Called by the worker

    def start(self, trainer: str, config: dict[str, Any], log: Path) -> None:
        """Start the trainer in a thread. If it fails, its traceback is appended to the file `log`."""
        self._thread = threading.Thread(target=self._run, args=(trainer, config, log), daemon=True)
        self._thread.start()

    def _run(self, trainer: str, config: dict[str, Any], log: Path) -> None:
        self._warnings = _Warnings()
        logging.getLogger().addHandler(self._warnings)
        try:
            loaded = import_trainer(trainer)
            loaded.function(loaded.config_model.model_validate(config), self)
        except StopTrial:
            pass
        except BaseException as error:
            with suppress(OSError):  # a full disk, for example, which may be the error itself
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a") as file:
                    file.write(traceback.format_exc())
            self._reports.put(
                Report(outcome="failed", reason=f"{type(error).__name__}: {error}", error=error)
            )
        else:
            self._reports.put(Report(outcome="completed"))
        finally:
            logging.getLogger().removeHandler(self._warnings)

    def next(self) -> Report:
        """Wait for the next report, and return it. The trainer continues when `next` is called again."""
        if self._blocked:
            self._turn.release()
        report = self._reports.get()
        self._blocked = not report.repeated and not report.outcome
        return report

    def stop(self) -> None:
        """End the thread. It must be waiting inside `report`, or have ended."""
        self._stopped = True
        self._turn.release()
        self._thread.join(timeout=60)


class TrialActor(tune.Trainable):
    """A Ray worker that runs trials one after the other. `config["payload"]` is a Payload as JSON.

    Training starts with the first `step`, not in `setup`: Ray may set up an actor for a trial and then run
    the trial in another actor.
    """

    _payload: Payload
    _trial: TrialHandle | None = None

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        payload = Payload.loads(config["payload"])
        return tune.PlacementGroupFactory([{"CPU": payload.cpu, "GPU": payload.gpu}])

    def setup(self, config: dict[str, Any]) -> None:
        self._payload = Payload.loads(config["payload"])
        sys.path.extend(path for path in self._payload.sys_path if path not in sys.path)
        importlib.import_module(self._payload.trainer.partition(":")[0])
        if not gc.get_freeze_count():  # exempt imported modules, as each trial's collection would scan them
            gc.collect()
            gc.freeze()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self._trial is None:
            self._trial = self._begin()
        report = self._trial.next()
        outcome = report.outcome
        if outcome == "failed":
            if not (self._payload.is_measured and _is_out_of_memory(report.error)):
                raise RuntimeError(report.reason) from report.error
            outcome = "out_of_memory"  # the controller retries it, with a larger share of the GPU
        return {
            "report": list(report.metrics.items()),
            "warning": report.warning,
            "outcome": outcome,
            "reason": report.reason,
            "done": bool(outcome),
        }

    def _begin(self) -> TrialHandle:
        payload = self._payload
        set_threads(payload.cpu)
        _limit_gpu_memory(payload.gpu if payload.is_measured else 1.0)
        trial = TrialHandle(payload, "cuda:0" if ray.get_gpu_ids() else "cpu")
        trial.start(payload.trainer, payload.config, Path(payload.log))
        return trial

    def cleanup(self) -> None:
        if self._trial is not None:
            self._trial.stop()
            self._trial = None
        _release_memory()


def _disk_full_reason(error: OSError) -> str:
    """The system's message if the error is a full disk or an exceeded quota; '' otherwise."""
    reasons = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT)]
    return next((reason for reason in reasons if reason in str(error)), "")  # copytree's error has no errno


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it is torch's OutOfMemoryError (checked by name, without importing torch) or an error of a CUDA
    library."""
    by_name = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return by_name or any(words in str(error) for words in ("CUDA error: out of memory", "ALLOC_FAILED"))


def _limit_gpu_memory(gpu: float) -> None:
    """Limit torch to the share `gpu` of the GPU's memory: a trial that needs more fails, and not the trials
    that share the GPU with it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpu or 1.0))


def _release_memory() -> None:
    """Return freed memory to the GPU and the system, for other processes: this process stays alive."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # only glibc has malloc_trim
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def set_threads(cpu: float) -> None:
    """Let torch use as many threads as the trial has cores, so that parallel trials do not compete for
    cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(max(1, int(cpu)))
