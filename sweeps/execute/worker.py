"""Ray's side of a trial: the trainer's function runs in a thread and hands over one report at a time.

The thread waits inside `trial.report` until Ray asks for the next step, so a trial that is stopped never
trains on. Workers outlive their trials (`reset_config`), so that torch is imported once a worker, not once a
trial.
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
from sweeps.record.checkpoints import NotKept
from sweeps.record.storage import checkpoint_store
from sweeps.space.names import RESERVED, name_problem


class StopTrial(BaseException):
    """Unwinds the trainer out of `report`. Not an Exception, so that a trainer does not swallow it."""


@dataclass(frozen=True)
class Payload:
    """What a worker is told of a trial. Travels as one string: Ray would otherwise take it apart."""

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
    known_step: int = -1  # the last one of which the journal has a report
    is_measured: bool = False  # its share of a GPU follows from its memory, and bounds it
    sys_path: list[str] = field(default_factory=list)

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Payload:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Report:
    """One hand-over from the trainer's thread. `outcome` is set on the last one only."""

    metrics: dict[str, float] = field(default_factory=dict)
    outcome: str = ""
    reason: str = ""
    repeated: bool = False  # one that the journal lacks, from the checkpoint that we went on from
    warning: str = ""
    error: BaseException | None = None


class _Warnings(logging.Handler):
    """What the trainer's thread logs as a warning, each once, until a report takes it along: a worker's own
    log is read by nobody."""

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
        taken, self._waiting = self._waiting, []
        return taken


class TrialHandle:
    """The `trial` that a trainer sees."""

    def __init__(self, payload: Payload, device: str) -> None:
        self.seed = payload.seed
        self.device = device
        self.checkpoint: Path | None = None
        self._store = checkpoint_store(payload.checkpoints, payload.metric, payload.mode)
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._turn = threading.Semaphore(0)
        self._blocked = False  # the thread waits for its turn
        self._stopped = False
        self._warnings: _Warnings | None = None  # of the thread, while it runs
        latest = self._store.latest()
        self._history: list[dict[str, float]] = []  # all that was reported up to here
        if latest is not None:
            self.checkpoint, self._history = latest
            for metrics in self._history:
                if metrics["step"] > payload.known_step:
                    self._reports.put(Report(metrics, repeated=True))

    def report(self, metrics: Mapping[str, float], checkpoint: str | Path | None = None) -> None:
        """Hand over metrics (`step` and `samples` among them) and, if given, a checkpoint's directory,
        which is copied before this returns. Does not return where the trial ends here."""
        values = {name: float(value) for name, value in metrics.items()}
        missing = {"step", "samples"} - values.keys()
        if missing:
            raise ValueError(f"trial.report needs {sorted(missing)} among its metrics; got {sorted(values)}")
        for name in values:
            if why := name_problem(name, RESERVED):
                raise ValueError(f"trial.report: the metric {name!r} {why}")
        bad = sorted(name for name, value in values.items() if not math.isfinite(value))
        if bad:
            reason = f"{bad[0]} is {values[bad[0]]} at step {values['step']:g}"
            self._reports.put(Report(values, outcome="diverged", reason=reason))
            raise StopTrial
        self._history.append(values)
        warnings = [] if self._warnings is None else self._warnings.take()
        if checkpoint is not None and (lost := self._keep(Path(checkpoint))):
            warnings.append(lost)
        self._reports.put(Report(values, warning="; ".join(warnings)))
        self._turn.acquire()
        if self._stopped:
            raise StopTrial

    def _keep(self, checkpoint: Path) -> str:
        """Keep the checkpoint. A full disk, or a store that is down, costs it and not the trial, which goes
        on and says so."""
        try:
            self._store.commit(checkpoint, self._history)
        except NotKept as error:
            return f"step {self._history[-1]['step']:g} has no checkpoint: {error}"
        except OSError as error:
            reason = _why_full(error)
            if not reason:
                raise
            return f"step {self._history[-1]['step']:g} has no checkpoint: {reason}"
        return ""

    # The other side, called by the worker.

    def start(self, trainer: str, config: dict[str, Any], log: Path) -> None:
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
            with suppress(OSError):  # the disk may be full, which may be why
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
        """The next report. The trainer goes on only when the one after it is asked for."""
        if self._blocked:
            self._turn.release()
        report = self._reports.get()
        self._blocked = not report.repeated and not report.outcome
        return report

    def stop(self) -> None:
        """End the thread, which waits inside `report` or has ended."""
        self._stopped = True
        self._turn.release()
        self._thread.join(timeout=60)


class TrialActor(tune.Trainable):
    """One worker. `config["payload"]` is a Payload.

    Training begins with the first step that Ray asks for, not before: Ray may set an actor up for a trial and
    then run the trial in another one.
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
        if not gc.get_freeze_count():  # what is imported stays: to look through it after every trial is slow
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
            outcome = "out_of_memory"  # not for Ray to try again: it would give the same share
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
        _bound_memory(payload.gpu if payload.is_measured else 1.0)
        trial = TrialHandle(payload, "cuda:0" if ray.get_gpu_ids() else "cpu")
        trial.start(payload.trainer, payload.config, Path(payload.log))
        return trial

    def cleanup(self) -> None:
        if self._trial is not None:
            self._trial.stop()
            self._trial = None
        _release_memory()


def _why_full(error: OSError) -> str:
    """ "No space left on device", or what else says that a disk is full; '' where it is not."""
    reasons = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT)]
    return next((reason for reason in reasons if reason in str(error)), "")  # copytree keeps no errno


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Torch's error, under any of its names, without loading torch; or CUDA's own, as libraries raise it."""
    by_name = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return by_name or any(words in str(error) for words in ("CUDA error: out of memory", "ALLOC_FAILED"))


def _bound_memory(gpu: float) -> None:
    """A trial that grows beyond its share of a GPU fails itself, and not the trials beside it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpu or 1.0))


def _release_memory() -> None:
    """What a trial has freed goes back to the GPU and to the system: this process lives on, beside others."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # glibc's; elsewhere there is none
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def set_threads(cpu: float) -> None:
    """As many threads as the trial was given cores, so that trials side by side do not fight over them."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(max(1, int(cpu)))
