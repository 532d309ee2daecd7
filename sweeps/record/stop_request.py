"""A request to end a launch, from another process or machine: a file in the sweep's folder.

`sweeps stop` makes it; the launch looks for it once a second, deletes it, and ends in order.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

FILE = "stop"
POLL_S = 1.0


def ask(folder: Path) -> None:
    """Ask the launch that works on the sweep in `folder` to end. Raises OSError."""
    (folder / FILE).touch()


def withdraw(folder: Path) -> None:
    """Remove a request, as one that a crash left."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


class StopRequest:
    """What a launch asks: whether it was asked to end. Earlier requests do not count."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked = time.monotonic()
        self._received = False
        withdraw(folder)

    def received(self) -> bool:
        """Whether a request has come. Looks at the disk once in POLL_S."""
        now = time.monotonic()
        if not self._received and now - self._looked >= POLL_S:
            self._looked = now
            self._received = (self._folder / FILE).exists()
            if self._received:
                withdraw(self._folder)
        return self._received
