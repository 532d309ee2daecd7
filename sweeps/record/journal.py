"""The journal, journal.jsonl: an append-only file of JSON lines, from which every other result is derived.

`sweeps.decide` and the MLflow writer append to it. Its listeners (the sweep's state, the budget, the disk
limit, the MLflow writer) receive each new event; a new launch reads the old events with `read_journal`.

Each line is one event: `{"time": seconds since 1970, "event": NAME, ...}`. The names and their fields:

    launch    a process started to work on the sweep: version, code, libraries, hash, max_t
    extend    the plan was extended: hash, and `reopened`, the completed trials that are to train longer
    trial     a trial was planned: trial_id, arm, draw, values, seed, phase
    measured  the GPU memory of an arm's trial: arm, peak_bytes, total_bytes, and its share of a GPU, `gpu`
    start     a trial started or was resumed: trial_id, attempt, config, cpu, gpu; reused_from, if its reports
              are copied from another sweep's trial
    report    a trial reported: trial_id, step, samples and the trainer's metrics
    decision  the scheduler judged a member of a pool: member, trial_id, rung, value, cutoff, tied, action
    warning   a problem after which the sweep continues: text; trial_id, if it concerns one trial
    retry     a trial failed and will be retried: trial_id, reason; gpu, if it gets a larger share of a GPU
    end       a trial ended: trial_id, status, reason; cause, if it was not the trainer's
    select    the draws of an arm that are repeated as evidence: arm, draws
    stage     the comparisons that the plan or an extension asks for: number, level, looks, and of each
              comparison its arms and seeds
    look      arms were compared: stage, look, seeds, metric, arms (the seeds of each that were seen), and the
              stage's comparisons after it (analysis.inference.decision.Comparison)
    mlflow    the MLflow run of a trial: trial_id, run_id
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
    """The events in order. A last line without its newline, as a crash leaves it, is skipped.

    Raises SpecError for any other line that is not an event: a crash cannot cause that.
    """
    if not path.exists():
        return
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or "event" not in event:
                raise ValueError(f"not an event: {line[:40]!r}")
        except ValueError as error:
            raise SpecError(f"{path}, line {number}: is damaged ({error}): restore the file") from error
        yield event


class Journal:
    """Appends events to `path`. Each is on disk before `append` returns.

    `listeners` are called with every new event, one at a time, in the file's order. They must be fast and
    must not raise.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.listeners: list[Callable[[Event], None]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._truncate_partial_line()
        self._file = path.open("ab", buffering=0)
        self._lock = threading.RLock()  # the MLflow writer's thread appends too

    def _truncate_partial_line(self) -> None:
        """Remove a last line without its newline, so that the next event starts on a new line."""
        if not self._path.exists():
            return
        with self._path.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)

    def append(self, event: str, **fields: Any) -> Event:
        """Write an event with the current time, and call the listeners. Raises OSError if the disk is
        full."""
        with self._lock:
            record: Event = {"time": round(time.time(), 3), "event": event, **fields}
            line = json.dumps(encode(record), separators=(",", ":"), allow_nan=False)
            self._write(line.encode() + b"\n")
            for listener in self.listeners:
                listener(record)
        return record

    def _write(self, line: bytes) -> None:
        """Write the whole line, or nothing of it and raise OSError."""
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
