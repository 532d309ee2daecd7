"""What is asked of a process: to be alone on its sweep, a log, to end when it is told, threads."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from sweeps.space.errors import SpecError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process a sweep."""
    try:
        lock = FileLock(folder / ".lock", blocking=False).acquire()
    except Timeout as error:
        raise SpecError(f"{folder}: another process is running this sweep; wait for it or end it") from error
    with lock:
        yield


class _Log(logging.FileHandler):
    """A log that cannot be written, as on a full disk, is no reason to stop, or to say more of it."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """The noise of Ray, MLflow and our own warnings goes into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _Log(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("", "ray", "ray.tune")]
    before = [logger.handlers[:] for logger in loggers]
    for logger in loggers:
        logger.handlers[:] = []
    loggers[0].addHandler(handler)
    loggers[1].propagate = True  # ray sets itself up to write to the terminal when it is imported
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
        handler.close()


class Signals:
    """Remembers the first signal that asks for the end; a second one of the kind ends the process at once."""

    KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._before = {kind: signal.getsignal(kind) for kind in self.KINDS}
        self.install()
        return self

    def install(self) -> None:
        for kind in self.KINDS:
            signal.signal(kind, self._catch)

    def __exit__(self, *exception: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught = number
        signal.signal(number, signal.SIG_DFL)
        print("Ending; what is recorded stays. Once more ends at once.", file=sys.stderr, flush=True)

    def received(self) -> bool:
        return self._caught is not None

    @property
    def exit_status(self) -> int:
        return 128 + (self._caught or signal.SIGINT)
