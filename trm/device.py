"""Settings of the device that a network runs on: precision, torch.compile, and the allocator's memory."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

import torch
from torch import nn

from trm.settings.messages import UsageError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 1 << 25  # bytes; the maximum on 64 bits (mallopt(3))
_TRIM_THRESHOLD = 1 << 30  # bytes
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # read by glibc; they take precedence

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


class Compilation:
    """`torch.compile` of a model's blocks, as `train.compile` says; `auto` compiles on a GPU only.

    If compiling fails, at once or the first time that training or evaluation runs, the run continues without
    it, with a warning. PyTorch caches compiled code on disk for other trials with the same network.
    """

    def __init__(self, blocks: Sequence[nn.Module], choice: str, device: torch.device) -> None:
        self._blocks = blocks
        self._untried: set[str] = set()  # parts of the run that have not run compiled yet
        self.enabled = choice == "on" or (choice == "auto" and device.type == "cuda")
        if self.enabled:
            self._untried = {"training", "evaluation"}
            try:
                for block in blocks:
                    # One graph for each shape: a dynamic one made for evaluation would also serve training.
                    block.compile(dynamic=False)
            except Exception as error:
                self._give_up(error)

    def run(self, part: str, call: Callable[[], T]) -> T:
        """The result of `call`, which is repeated without compilation if compiling fails.

        `part` is "training" or "evaluation". An error in a part that has already succeeded is raised.
        """
        try:
            result = call()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if part not in self._untried:
                raise
            self._give_up(error)
            return call()
        self._untried.discard(part)
        return result

    def _give_up(self, error: Exception) -> None:
        reason = str(error).strip().partition("\n")[0]
        log.warning("torch.compile failed: the run continues without it, which is slower (%s)", reason)
        for block in self._blocks:
            block._compiled_call_impl = None  # set by Module.compile()
        self._untried.clear()

    def close(self) -> None:
        """Drop the compiled code: it counts towards the compiler's limit of variants for the next model."""
        if self.enabled:
            torch.compiler.reset()


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
