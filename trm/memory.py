"""What is asked of the system's allocator while a trial trains on a CPU."""

from __future__ import annotations

import ctypes
import logging
import os
from contextlib import suppress
from functools import lru_cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 1 << 25  # bytes; more is refused (mallopt(3), for 64 bits)
_TRIM_THRESHOLD = 1 << 30
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # glibc's: who sets one wants another rule

log = logging.getLogger(__name__)


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
