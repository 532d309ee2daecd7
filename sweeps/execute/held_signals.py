"""Signals that are the launch's alone to hear: the processes that it started must outlive them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

HELD = frozenset({signal.SIGHUP, signal.SIGTERM})


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGHUP and SIGTERM back from this process in the block, and for good from processes that it
    starts: a terminal that closes, `timeout` and Slurm's time limit send them to all processes, and those
    that the sweep needs must live until this process has ended them in order."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pass_over_held_signals() -> None:
    """Where `signals_held` began this process: ignore these signals, but not in processes that it starts.
    Call it in the main thread."""
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= HELD:
        for kind in HELD:
            signal.signal(kind, lambda number, frame: None)  # unlike SIG_IGN, no child inherits it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
