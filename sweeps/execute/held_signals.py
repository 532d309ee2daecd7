"""Signals that are the launch's alone to hear: the processes that it started must outlive them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HELD = frozenset({signal.SIGHUP})
if sys.platform.startswith("linux"):  # elsewhere Ray ends what a killed driver leaves by a SIGTERM
    HELD |= {signal.SIGTERM}


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGHUP and SIGTERM back from this process in the block, and for good from processes that it
    starts: a terminal that closes, `timeout` and Slurm's time limit send them to all processes, and those
    that the sweep needs must live until this process has ended them in order. Then what came in the meantime
    is heard by the handlers from before, whatever was installed in the block. In the main thread alone."""
    handlers = {kind: signal.getsignal(kind) for kind in HELD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pass_over_held_signals() -> None:
    """Where `signals_held` began this process: ignore these signals, but not in processes that it starts.
    Call it in the main thread."""
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= HELD:
        for kind in HELD:
            signal.signal(kind, _pass_over)  # unlike SIG_IGN, it ends with `exec`
        os.register_at_fork(after_in_child=_hear_again)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def _pass_over(number: int, frame: FrameType | None) -> None:
    pass


def _hear_again() -> None:
    for kind in HELD:
        if signal.getsignal(kind) is _pass_over:
            signal.signal(kind, signal.SIG_DFL)
