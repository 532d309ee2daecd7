"""The device that a network runs on: precision, torch.compile, the allocator's memory; waiting for it."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from trm.cache import cache_folder
from trm.settings.messages import UsageError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 1 << 25  # bytes; the maximum on 64 bits (mallopt(3))
_TRIM_THRESHOLD = 1 << 30  # bytes
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # read by glibc; they take precedence

_MOST_GRAPHS = 256  # of all networks of a process

log = logging.getLogger(__name__)
T = TypeVar("T")


def resolve_device(name: str) -> str:
    """`auto` is the first GPU, else the CPU. Raises UsageError for a device that torch does not see."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    allowed = ["cpu", *(f"cuda:{i}" for i in range(count))]
    if name == "auto":
        return allowed[min(count, 1)]
    if name not in allowed:
        raise UsageError(f"--device {name}: torch has no such device: give one of auto, {', '.join(allowed)}")
    return name


def forward_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype for `train.precision`; `auto` is bfloat16 on a GPU that supports it, else float32."""
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        name = torch.cuda.get_device_name(device)
        log.warning("%s does not support bfloat16: the run uses float32, which is slower", name)
    return torch.float32


def set_matmul_precision(precision: str, device: torch.device) -> None:
    """Whether matrix products of float32 use TF32 (`tf32`), for this process; without effect on a CPU."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was told to do, so that the clock may be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Compilation:
    """`torch.compile` of a model's blocks, if `is_on`; `parts` says for each part of a run whether it is
    compiled: "training" and "evaluation", which use the same shape of rows.

    A part in which compiling fails, at whatever step, is computed without it from there on, with one warning;
    if `is_required`, the error is raised. Graphs are kept for the next trial in this process, and compiled
    code is kept on disk for this user's other processes.
    """

    def __init__(self, blocks: Sequence[nn.Module], is_on: bool, is_required: bool) -> None:
        self._blocks, self._is_required = blocks, is_required
        self.parts = {"training": is_on, "evaluation": is_on}
        if not is_on:
            return
        _keep_code_private()
        # Each network, with and without gradients, is a variant of the same function to the compiler, which
        # gives up after 8.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_GRAPHS)
        try:
            for block in blocks:
                block.compile(dynamic=False)  # a graph for a shape: one for all shapes is slower
        except Exception as error:
            self._give_up([*self.parts], error)

    def keep(self, parts: Mapping[str, bool]) -> None:
        """Go on as the run began, from a checkpoint's `parts`: with as much compiled, and no more."""
        self.parts |= {part: is_on and self.parts[part] for part, is_on in parts.items()}

    def run(self, part: str, call: Callable[[], T]) -> T:
        """The result of `call`, which is repeated without compilation if it fails, unless memory ran out.

        An error that is not the compiler's is raised by the repetition.
        """
        if not self.parts[part]:
            with self._eager():
                return call()
        try:
            return call()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            with self._eager():
                result = call()
            self._give_up([part], error)
            return result

    @contextmanager
    def _eager(self) -> Iterator[None]:
        """The blocks as they were before `Module.compile`, which keeps what it made in this attribute."""
        compiled = [block._compiled_call_impl for block in self._blocks]
        for block in self._blocks:
            block._compiled_call_impl = None
        try:
            yield
        finally:
            for block, call in zip(self._blocks, compiled, strict=True):
                block._compiled_call_impl = call

    def _give_up(self, parts: list[str], error: Exception) -> None:
        if self._is_required:
            raise RuntimeError(
                "train.compile is on, but torch.compile failed: set it to auto to go on without it"
            ) from error
        reason = str(error).strip().partition("\n")[0]
        named = " and ".join(parts)
        log.warning("torch.compile failed: %s without it, which is slower (%s)", named, reason)
        self.parts |= dict.fromkeys(parts, False)


def _keep_code_private() -> None:
    """Let the compiler keep its code in the user's cache. Its own default is below /tmp, where another user
    could put code, under a name that can be guessed, before this process loads it from there."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    folder, is_private = cache_folder() / "compiled", False
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        is_private = status.st_uid == os.getuid() and not status.st_mode & 0o022
    if not is_private:
        log.warning("%s is not this user's alone: compiled code is not kept for other processes", folder)
        folder = Path(tempfile.mkdtemp(prefix="trm-compiled-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


@lru_cache
def keep_freed_memory() -> None:
    """Make the process keep freed memory for its next tensors instead of returning it to the system.

    Every step frees and allocates the same tensors. Each page that was returned costs a page fault and is
    cleared again before its next use: 2,000 pages a step at 64 channels, 8% of the time. Works with glibc
    only, and lasts until the process ends; `malloc_trim` still returns all of it. Does nothing with another C
    library, or if one of glibc's own variables is set.
    """
    if any(name in os.environ for name in _VARIABLES):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # Setting one of the two stops glibc from adjusting either, so both must be set.
        if mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD):
            mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
            log.info("freed memory is kept for the next step (set %s to turn it off)", _VARIABLES[0])
