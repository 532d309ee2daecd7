"""The process of a launch: a lock on the sweep's folder, a log file, and signals."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from sweeps.record.secrets import LogFormatter
from sweeps.space.errors import SpecError

LOCK = ".lock"
LOCK_S = 1.0  # how long a launch waits for the lock: `is_locked` holds it for a moment


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the sweep's folder. Raises SpecError if another process holds it, or if the file
    system has no locks."""
    try:
        lock = FileLock(folder / LOCK, timeout=LOCK_S, poll_interval=0.05, fallback_to_soft=False).acquire()
    except Timeout as error:
        raise SpecError(f"{folder}: another process is running this sweep; wait for it or end it") from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(
            f"{folder}: cannot be locked ({reason}): it must be writable, on a file system with locks: give "
            f"another folder with --storage"
        ) from error
    with lock:
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process works on the sweep. Writes nothing, so that anybody who can read the folder may
    ask."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class _Log(logging.FileHandler):
    """A log file whose write errors, as on a full disk, are ignored."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write the log messages of Ray, MLflow and this package into the file `path`, not to the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _Log(path)
    handler.setFormatter(LogFormatter())
    # At its end Tune looks for result files of its own, which are turned off, and warns of each trial.
    handler.addFilter(lambda record: record.name != "ray.tune.analysis.experiment_analysis")
    loggers = [logging.getLogger(name) for name in ("", "ray", "ray.tune")]
    before = [logger.handlers[:] for logger in loggers]
    for logger in loggers:
        logger.handlers[:] = []
    loggers[0].addHandler(handler)
    loggers[1].propagate = True  # importing ray disables this, and sets up its own output to the terminal
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
        handler.close()


class Signals:
    """A context manager that catches a first SIGINT, SIGTERM or SIGHUP, so that the launch can end in order.
    What was ignored when the launch began, as SIGHUP under nohup, stays ignored.

    A second signal, of whichever kind, ends the process at once, but for a second SIGHUP within SAME_S: a
    terminal that is closed sends it from the shell and again from the kernel.
    """

    KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    SAME_S = 1.0

    def __init__(self) -> None:
        self._caught: int | None = None
        self._caught_at = 0.0
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []  # which of the outputs are one

    def __enter__(self) -> Signals:
        before = {kind: signal.getsignal(kind) for kind in self.KINDS}
        self._before = {kind: handler for kind, handler in before.items() if handler != signal.SIG_IGN}
        self._terminals = [output for output in (1, 2) if os.isatty(output)]
        self.install()
        return self

    def install(self) -> None:
        """Install the handlers. Call it again if other code has replaced them."""
        for kind in self._before:
            signal.signal(kind, self._catch)

    def __exit__(self, *exception: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)
        self._leave_closed_terminals()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._caught is not None:
            is_same = number == self._caught == signal.SIGHUP and now - self._caught_at < self.SAME_S
            if not is_same:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        self._caught, self._caught_at = number, now
        self._leave_closed_terminals()
        try:  # without sys.stderr, which may be in the middle of a write
            os.write(2, b"Stopping; recorded results are kept. A second signal stops at once.\n")
        except OSError:  # nobody is there to read it, nor what is still printed
            _discard(2)

    def _leave_closed_terminals(self) -> None:
        """Discard what is still printed, where a write to a closed terminal would raise an error."""
        for output in self._terminals:
            if not os.isatty(output):
                _discard(output)

    def received(self) -> bool:
        return self._caught is not None

    @property
    def exit_status(self) -> int:
        """128 + the number of the signal that was caught."""
        return 128 + (self._caught or signal.SIGINT)


def _discard(output: int) -> None:
    """Discard what is written to this file descriptor from now on."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, output)
    os.close(null)
