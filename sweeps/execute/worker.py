"""A Ray worker: it runs trials one after the other, and returns one report of the trainer for each Ray step.

`execute.tuner` starts a TrialActor for each trial. The actor imports the trainer (`plan.trainer`) and runs it
in a thread (`execute.trial`). Workers are reused for later trials (`reset_config`), so that torch is imported
only once per worker. After a failure the worker's process ends, as it may be in a bad state.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import os
import sys
from contextlib import suppress
from typing import Any

import ray
from ray import tune

from sweeps.execute.failure import reason_of
from sweeps.execute.held_signals import pass_over_held_signals
from sweeps.execute.trial import Payload, Report, TrialHandle

_CUDA_BYTES = 1 << 29  # of a GPU, about: the context and the kernels of a process, outside torch's allocator
_LEAST_SHARE = 0.001  # 0 would be no limit


class TrialActor(tune.Trainable):
    """A Ray worker that runs trials one after the other. `config["payload"]` is a Payload as JSON.

    Training starts with the first `step`, not in `setup`: Ray may set up an actor for a trial and then run
    the trial in another actor.
    """

    _payload: Payload
    _trial: TrialHandle | None = None
    _has_failed = False

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        payload = Payload.loads(config["payload"])
        there = {"ray.io/node-id": f"in({','.join(payload.nodes)})"}
        return tune.PlacementGroupFactory(
            [{"CPU": payload.cpu, "GPU": payload.gpu}], bundle_label_selector=[there]
        )

    def setup(self, config: dict[str, Any]) -> None:
        pass_over_held_signals()
        self._payload = Payload.loads(config["payload"])
        sys.path.extend(path for path in self._payload.sys_path if path not in sys.path)
        importlib.import_module(self._payload.trainer.partition(":")[0])
        faulthandler.enable(2, all_threads=False)  # crashes are told on stderr, which is the trial's log then
        check_gpu(self._payload.gpu)
        if not gc.get_freeze_count():  # exempt imported modules, as each trial's collection would scan them
            gc.collect()
            gc.freeze()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next report. One of a failure leaves the trial open; the step after it ends the process.

        A trial that is done leaves its actor to the next trial. Ray makes a new actor only for one that dies.
        And a thread that hangs ends with its process alone.
        """
        if self._has_failed:
            os._exit(1)
        report = self._next()
        self._has_failed = report.is_failure
        return {
            "report": list(report.metrics.items()),
            "repeated": report.repeated,
            "warnings": report.warnings,
            "outcome": report.outcome,
            "reason": report.reason,
            "log": report.log,
            "done": report.outcome in ("completed", "diverged"),
        }

    def _next(self) -> Report:
        try:
            if self._trial is None:
                self._trial = self._begin()
            return self._trial.next()
        except Exception as error:  # of the checkpoints' store or of this machine: the trainer's are reports
            return Report(outcome="lost", reason=reason_of(error))

    def _begin(self) -> TrialHandle:
        payload = self._payload
        set_threads(payload.cpu)
        limit_gpu_memory(payload.gpu)
        return TrialHandle(payload, "cuda:0" if ray.get_gpu_ids() else "cpu")

    def cleanup(self) -> None:
        if self._trial is not None:
            if not self._trial.stop():  # its thread would change the process under the next trial
                os._exit(1)
            self._trial = None
        _release_memory()


def check_gpu(gpu: float) -> None:
    """Raise RuntimeError if a trial is to have a GPU, but torch, where it is in use, finds none here: the
    node is broken, and the trial must be tried on another."""
    torch = sys.modules.get("torch")
    if gpu and torch is not None and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU on this node (torch.cuda.is_available() is False)")


def limit_gpu_memory(gpu: float) -> None:
    """Limit torch to the share `gpu` of the GPU's memory, less what CUDA itself holds in each process: a
    trial that needs more fails, and not the trials that share the GPU with it."""
    torch = sys.modules.get("torch")
    if not gpu or torch is None or not torch.cuda.is_available():
        return
    share = 1.0
    if gpu < 1:
        _, total = torch.cuda.mem_get_info()
        share = max(_LEAST_SHARE, gpu - _CUDA_BYTES / total)
    torch.cuda.set_per_process_memory_fraction(share)


def _release_memory() -> None:
    """Return freed memory to the GPU and the system, for other processes: this process stays alive."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # only glibc has malloc_trim
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def set_threads(cpu: float) -> None:
    """Let torch, and its compiler, use as many threads as the trial has cores, so that parallel trials do not
    compete for cores."""
    threads = max(1, int(cpu))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)  # for a compiler that is not yet imported
    if (compiler := sys.modules.get("torch._inductor.config")) is not None:
        compiler.compile_threads = threads  # type: ignore[attr-defined]
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
