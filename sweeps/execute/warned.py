"""The warnings of one trial, for the journal: each once, and not more of them than a reader can use."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_WARNINGS = 20  # different ones of a trial
MAX_LENGTH = 300  # characters


class TrialWarnings(logging.Handler):
    """Collects what the trainer's thread logs as a warning or worse, and what it passes to `warnings.warn`.
    The next report carries them. All of them stand in the trial's log too, whose name is `log`."""

    def __init__(self, log: str) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._thread = threading.get_ident()
        self._seen: set[str] = set()
        self._waiting: list[str] = []

    def add(self, text: str) -> None:
        """Keep the first line of a warning, cut to MAX_LENGTH, if it is new."""
        line = text.partition("\n")[0].encode("utf-8", "replace").decode()
        line = line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 3]}..."
        if line in self._seen or len(self._seen) > MAX_WARNINGS:
            return
        self._seen.add(line)
        if len(self._seen) > MAX_WARNINGS:
            line = f"there are more warnings than {MAX_WARNINGS}: the rest are in {self._log}"
        self._waiting.append(line)

    def take(self) -> list[str]:
        """The warnings since the last call."""
        taken, self._waiting = self._waiting, []
        return taken

    def emit(self, record: logging.LogRecord) -> None:
        if logging.lastResort is not None and logging.getLogger().handlers == [self]:
            logging.lastResort.handle(record)  # as Python does where nobody has set up logging: to stderr
        if record.thread == self._thread:
            try:
                text = record.getMessage()
            except Exception:  # the format does not fit its values: no error of the trainer
                self.handleError(record)
            else:
                self.add(text)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the warnings of the calling thread. At the end the filters of `warnings` are those of
        before, so that each trial is warned anew."""
        self._thread = threading.get_ident()
        root = logging.getLogger()
        root.addHandler(self)
        try:
            with warnings.catch_warnings():
                shown = warnings.showwarning

                def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
                    shown(message, category, *where, **more)
                    if threading.get_ident() == self._thread:
                        self.add(f"{category.__name__}: {message}")

                warnings.showwarning = show
                yield
        finally:
            root.removeHandler(self)
