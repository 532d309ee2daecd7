"""The journal, journal.jsonl: an append-only file of JSON lines, from which every other result is derived.

`sweeps.decide` appends to it. Its listeners (the sweep's state, the budget, the disk limit) receive each new
event; a new launch reads the old events with `read_journal`, and the process that writes to MLflow the file.

Each line is one event: `{"time": seconds since 1970, "event": NAME, ...}`. The names and their fields:

    launch    a process started to work on the sweep: format, version, code, libraries, hash, max_t
    extend    the plan was extended: hash, and `reopened`, the completed trials that are to train longer
    trial     a trial was planned: trial_id, arm, draw, values, seed, phase
    measured  the GPU memory of an arm's trial: arm, peak_bytes, total_bytes, and its share of a GPU, `gpu`
    start     a trial started or was resumed: trial_id, attempt, config, cpu, gpu; node, the id that Ray gave
              the machine, and host, its name; reused_from, if its reports are copied from another sweep's
              trial
    report    a trial reported: trial_id, step, samples and the trainer's metrics
    decision  the scheduler judged a member of a pool: member, trial_id, rung, value, cutoff, tied, action
    warning   a problem after which the sweep continues: text; trial_id, if it concerns one trial
    retry     a trial failed and will be retried: trial_id, reason; gpu, if it gets a larger share of a GPU;
              log, the last lines of the attempt's log; cause: "lost", with the node, if its worker or node
              died; "asked", if a user asked for it after its end, and then `reselect`, if the arm had no draw
              left for evidence and is selected from again
    end       a trial ended: trial_id, status, reason; cause, if it was not the trainer's; log, if it failed:
              the last lines of the attempt's log
    select    the draws of an arm that are repeated as evidence: arm, draws
    stage     the comparisons that the plan or an extension asks for: number, level, looks, and of each
              comparison its arms and seeds
    look      arms were compared: stage, look, seeds, metric, arms (the seeds of each that were seen), and the
              stage's comparisons after it (analysis.inference.decision.Comparison)
    mlflow    the MLflow run of a trial, in older journals: trial_id, run_id
    finish    the process stopped: status

`format` is FORMAT. A reader passes over events whose names it does not know; where it must not, FORMAT is
raised, and older readers refuse the journal.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sweeps.space.encoding import encode
from sweeps.space.errors import SpecError
from trm import __version__

Event = dict[str, Any]
FORMAT = 1
SYNC_S = 0.1  # how long an event without an effect waits to be synced, while others follow
_BLOCK = 1 << 16
logger = logging.getLogger(__name__)
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def read_journal(path: Path, name: str = "") -> Iterator[Event]:
    """The events in order; with `name` those of that name alone, and no other line is parsed. A last line
    without its newline, as a crash leaves it, is skipped.

    Raises SpecError for any other line that is not an event, as a crash cannot cause that, and for a journal
    of a later format.
    """
    if path.exists():
        with path.open("rb") as file:
            yield from events_in(file, str(path), name=name)


def events_in(lines: Iterable[bytes], source: str, first: int = 1, name: str = "") -> Iterator[Event]:
    """The events in lines of the journal `source`, the first of which has the number `first`; as
    read_journal."""
    for number, line in enumerate(lines, start=first):
        if not line.endswith(b"\n"):
            return
        if name and f'"{name}"'.encode() not in line:
            continue
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or "event" not in event:
                raise ValueError(f"not an event: {line[:40]!r}")
        except ValueError as error:
            raise SpecError(f"{source}, line {number}: is damaged ({error}): restore the file") from error
        if event["event"] == "launch" and event.get("format", FORMAT) > FORMAT:
            raise SpecError(
                f"{source}: was written by a newer version ({event.get('version', 'unknown')}; this is "
                f"{__version__}), which records what this one cannot read: update this one"
            )
        if name in ("", event["event"]):
            yield event


class Journal:
    """Appends events to `path`. An event is on disk before its effect leaves the process.

    So `append` syncs the file before it returns, with one exception: a planned trial, a report and a decision
    to go on have no effect but that trials run, and what a power cut loses of them is planned, run or judged
    again. They are written at once, so that the death of the process loses none, but synced with the next
    event that has an effect, or with the next event at all once SYNC_S have passed. If that sync fails, they
    are taken back although the listeners have had them: `append` raises OSError, the launch ends, and what
    is then told of the sweep must be read from the file.

    `listeners` are called with every new event, one at a time, in the file's order. They must be fast and
    must not raise. Only one thread may append: the one that runs the sweep.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.listeners: list[Callable[[Event], None]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._truncate_partial_line()
        self._file = path.open("ab", buffering=0)
        self._size = self._synced = os.fstat(self._file.fileno()).st_size
        self._synced_at = -math.inf

    def _truncate_partial_line(self) -> None:
        """Remove a last line without its newline, so that the next event starts on a new line."""
        if not self._path.exists():
            return
        with self._path.open("rb+") as file:
            end = place = file.seek(0, os.SEEK_END)
            whole = 0
            while place and not whole:  # the last lines are enough: the journal may be large
                place = max(0, place - _BLOCK)
                file.seek(place)
                newline = file.read(_BLOCK).rfind(b"\n")
                whole = place + newline + 1 if newline >= 0 else 0
            if whole != end:
                file.truncate(whole)

    def append(self, event: str, **fields: Any) -> Event:
        """Write an event with the current time, and call the listeners. Raises OSError if the disk is
        full."""
        record: Event = {"time": round(time.time(), 3), "event": event, **fields}
        self._write(_as_json(record).encode() + b"\n")
        if _has_effect(record) or time.monotonic() - self._synced_at >= SYNC_S:
            self._sync()
        for listener in self.listeners:
            listener(record)
        return record

    def warn(self, text: str) -> None:
        """Write a problem after which the sweep goes on, and log it."""
        logger.warning("%s", text)
        self.append("warning", text=text)

    def _write(self, line: bytes) -> None:
        """Write the whole line, or nothing of it and raise OSError."""
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            os.ftruncate(self._file.fileno(), self._size)
            raise
        self._size += len(line)

    def _sync(self) -> None:
        """Sync what was written, or take all of it back that may not be on disk and raise OSError."""
        try:
            getattr(os, "fdatasync", os.fsync)(self._file.fileno())  # macOS has no fdatasync
        except OSError:
            os.ftruncate(self._file.fileno(), self._synced)
            self._size = self._synced
            raise
        self._synced, self._synced_at = self._size, time.monotonic()

    def close(self) -> None:
        if not self._file.closed and self._synced < self._size:
            self._sync()
        self._file.close()


def _as_json(record: Event) -> str:
    try:
        return _to_json(record)
    except ValueError:  # it holds a number that is not finite, which is rare
        return _to_json(encode(record))


def _has_effect(event: Event) -> bool:
    """Whether something leaves the process because of it: work starts or ends, or somebody is told."""
    return event["event"] not in ("trial", "report") and event.get("action") != "continue"
