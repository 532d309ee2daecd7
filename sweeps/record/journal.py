"""The journal: an append-only file of JSON lines, the one record that every other result is derived from.

Each line is one event: `{"time": seconds since 1970, "event": NAME, ...}`. The names:

    launch    a process began to work on the sweep: version, code, hash
    extend    the plan has grown: hash, and `reopened`, the completed trials that have further to go
    trial     a trial was planned: trial_id, arm, draw, values, seed, phase
    measured  what a trial of an arm needs of a GPU: arm, peak_bytes, total_bytes, and its share `gpu`
    start     a trial began to run, or went on: trial_id, attempt, config, cpu, gpu; reused_from, where its
              reports are those of another sweep's trial
    report    trial_id, step, samples and the trainer's metrics
    decision  the scheduler looked at a member of a pool: member, trial_id, rung, value, cutoff, tied, action
    warning   something went wrong that the trial survived: trial_id, text
    retry     a trial failed and is to be tried again: trial_id, reason; gpu, where it gets a larger share
    end       trial_id, status, reason
    select    the draws of an arm that go on to the evidence: arm, draws
    mlflow    the run that mirrors a trial: trial_id, run_id
    finish    the process stopped: status
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sweeps.space.encoding import encode
from sweeps.space.errors import SpecError

Event = dict[str, Any]


def read_journal(path: Path) -> Iterator[Event]:
    """The events in order. A last line without its end, which a crash in mid-write leaves, is passed over.

    Raises SpecError for a broken line anywhere else: that is no crash, somebody changed the file.
    """
    if not path.exists():
        return
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or "event" not in event:
                raise ValueError(f"no event, but {line[:40]!r}")
        except ValueError as error:
            raise SpecError(f"{path}, line {number}: is damaged ({error}): restore the file") from error
        yield event


class Journal:
    """Appends events to `path`, each on the disk before `append` returns.

    `listeners` hear every event, one at a time and in the file's order. They must be quick and not raise.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.listeners: list[Callable[[Event], None]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._mend_torn_line()
        self._file = path.open("ab", buffering=0)
        self._lock = threading.RLock()  # the tracker's thread appends too

    def _mend_torn_line(self) -> None:
        """Cut off a last line without its newline, so that the next event starts on a line of its own."""
        if not self._path.exists():
            return
        with self._path.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)

    def append(self, event: str, **fields: Any) -> Event:
        with self._lock:
            record: Event = {"time": round(time.time(), 3), "event": event, **fields}
            line = json.dumps(encode(record), separators=(",", ":"), allow_nan=False)
            self._write(line.encode() + b"\n")
            for listener in self.listeners:
                listener(record)
        return record

    def _write(self, line: bytes) -> None:
        """The whole line or, where the disk is full, none of it. Raises OSError."""
        end = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            os.fdatasync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), end)
            raise

    def close(self) -> None:
        self._file.close()
