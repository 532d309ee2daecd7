"""How a network runs on its device: the precision, torch.compile, and the allocator's memory."""

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

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 1 << 25  # bytes; more is refused (mallopt(3), for 64 bits)
_TRIM_THRESHOLD = 1 << 30
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # glibc's: who sets one wants another rule

log = logging.getLogger(__name__)
T = TypeVar("T")


def forward_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Of `train.precision`; `auto` is bfloat16 on a GPU that has it."""
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        name = torch.cuda.get_device_name(device)
        log.warning("%s has no bfloat16: the run is in float32, which is slower", name)
    return torch.float32


class Compilation:
    """`torch.compile` of a model's blocks, by `train.compile`: `auto` is on a GPU.

    Where it fails, at once or when a part of the run comes for the first time, a warning says so and the run
    goes on without it. What is compiled is kept on disk by PyTorch, for every trial with the same network.
    """

    def __init__(self, blocks: Sequence[nn.Module], choice: str, device: torch.device) -> None:
        self._blocks = blocks
        self._untried: set[str] = set()  # the parts of a run that have not run yet
        self.asked = choice == "on" or (choice == "auto" and device.type == "cuda")
        if self.asked:
            self._untried = {"training", "evaluation"}
            try:
                for block in blocks:
                    block.compile(dynamic=False)  # a graph a shape: one made for evaluation would train too
            except Exception as error:
                self._give_up(error)

    def run(self, part: str, call: Callable[[], T]) -> T:
        """What `call` gives, called again where compiling fails; `part` is "training" or "evaluation"."""
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
        log.warning("torch.compile failed, the run goes on without it, slower (%s)", reason)
        for block in self._blocks:
            block._compiled_call_impl = None  # what Module.compile() set
        self._untried.clear()

    def close(self) -> None:
        """Forget what was compiled, or the next model meets the compiler's limit of variants a function."""
        if self.asked:
            torch.compiler.reset()


@lru_cache
def keep_freed_memory() -> None:
    """From now on the process keeps what it frees, for the next tensor, instead of giving it back at once.

    Every step frees and asks for the same tensors. Given back, each of their pages is a fault and a page to
    be cleared when it comes again: 2,000 a step at 64 channels, 8% of the time. glibc alone knows how;
    elsewhere nothing happens. It holds for all of the process, to its end; `malloc_trim` still gives
    everything back. Where glibc's own variables are set, those hold.
    """
    if any(name in os.environ for name in _VARIABLES):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # One alone would end glibc's own adjustment of both, and leave the other one small.
        if mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD):
            mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
            log.info("freed memory is kept for the next step (set %s to turn it off)", _VARIABLES[0])
