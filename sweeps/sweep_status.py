"""What is known of the sweeps in a storage, while they run and after, from their files alone."""

from __future__ import annotations

import datetime
import difflib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.format import few
from sweeps.observe.progress import Progress, Tracker
from sweeps.process import LOCK_S, is_locked
from sweeps.record.mlflow_file import FILE, MlflowFile
from sweeps.record.reading import JournalFollower
from sweeps.record.secrets import without_secret
from sweeps.record.state import RUNNING, SweepState, how_ended
from sweeps.record.storage import Storage
from sweeps.space.errors import SpecError

DAMAGED = "damaged"  # of a sweep whose files cannot be read
JSON_KEYS = (
    *("name", "state", "folder", "objective", "trials", "ended", "planned", "best", "best_phase", "looks"),
    *("failures", "launches", "mlflow", "elapsed_s", "eta_s", "updated"),
)
POLL_S = 0.1
FAILURES = 5  # whose reasons are named


@dataclass(frozen=True)
class SweepStatus:
    """A sweep at one moment.

    `state` is running, finished, interrupted or budget. `failures` are the ids and reasons of the first
    failed trials; `looks` is how many looks at the arms were taken, and how many are planned at the most (0:
    none). `mlflow` is the link to the sweep's page in MLflow, '' if it is not known.
    """

    name: str
    where: str
    state: str
    progress: Progress
    failures: tuple[tuple[str, str], ...]
    looks: tuple[int, int]
    launches: int
    mlflow: str = ""

    def as_json(self) -> dict[str, Any]:
        """As `status --json` prints it. Times are in seconds."""
        progress = self.progress
        best, left = progress.best, progress.left_s
        phase = {True: "evidence", False: "search"}[best.is_evidence] if best else None
        moment = datetime.datetime.fromtimestamp(progress.updated, datetime.UTC)
        return {
            "name": self.name,
            "state": self.state,
            "folder": self.where,
            "objective": {"metric": progress.metric, "mode": progress.mode, "unit": progress.unit},
            "trials": dict(progress.trials),
            "ended": progress.ended,
            "planned": progress.planned,
            "best": best and {"arm": best.name, "value": best.value},
            "best_phase": phase,
            "looks": {"taken": self.looks[0], "planned": self.looks[1]},
            "failures": [{"trial_id": trial_id, "reason": reason} for trial_id, reason in self.failures],
            "launches": self.launches,
            "mlflow": self.mlflow or None,
            "elapsed_s": round(progress.elapsed_s, 1),
            "eta_s": None if left is None or not math.isfinite(left) else round(left, 1),
            "updated": moment.isoformat(timespec="seconds") if progress.updated else None,
        }


def damaged_as_json(name: str, error: SpecError) -> dict[str, Any]:
    """As `list --json` prints a sweep that cannot be read: with the keys of one that can, and `error`."""
    return {**dict.fromkeys(JSON_KEYS), "name": name, "state": DAMAGED, "error": str(error)}


class SweepReader:
    """Reads a sweep's files, and at each `status` what was added to them. Raises SpecError if they are
    damaged."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self._name = name
        with self._refusing_damage():
            self._begin()

    def _begin(self) -> None:
        self._files = self._storage.files(self._name)
        self._follower = JournalFollower(self._files)
        self._space = self._files.space()
        self.state = SweepState()
        self._tracker = Tracker(self.state, self._space)

    def status(self, or_judged: bool = False) -> SweepStatus:
        """The status now; `or_judged` is that of Tracker.snapshot. Raises SpecError for damaged files and for
        those of a later format."""
        runs = is_running(self._storage, self._name)  # before the journal: its end is then in it
        with self._refusing_damage():
            if self._follower.is_replaced:
                self._begin()
            for event in self._follower.read():
                if event["event"] == "extend":  # sweep.yaml is another one now
                    self._space.update(self._files.space())
                self.state.apply(event)
                self._tracker.apply(event)
            return self._status(runs, or_judged)

    @contextmanager
    def _refusing_damage(self) -> Iterator[None]:
        """Raise SpecError for what the files' content leads to if it is not as it was written."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            if isinstance(error, SpecError):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise SpecError(f"{self._files.where}: its files are damaged ({reason}): restore them") from error

    def _status(self, runs: bool, or_judged: bool) -> SweepStatus:
        failed = [trial for trial in self.state.trials.values() if trial.status == "failed"]
        stages, looks = self.state.stages, self.state.looks
        latest = [look for look in looks if stages and look["stage"] == stages[-1]["number"]]
        return SweepStatus(
            name=self._name,
            where=self._files.where,
            state=RUNNING if runs else how_ended(self.state.finished),
            progress=self._tracker.snapshot(time.time() if runs else None, or_judged),
            failures=tuple((trial.trial_id, trial.reason) for trial in failed[:FAILURES]),
            looks=(len(latest), len(stages[-1]["looks"]) if stages else 0),
            launches=self.state.launches,
            mlflow=self._mlflow(),
        )

    def _mlflow(self) -> str:
        try:
            return MlflowFile.parse(self._files.read(FILE)).link
        except OSError:
            return ""


def read_status(name: str, location: str | Path) -> SweepStatus:
    """The status of one sweep. Raises SpecError if there is none of this name, or if it is damaged."""
    storage = Storage(location)
    check_known(storage, name)
    return SweepReader(storage, name).status()


def statuses(location: str) -> Iterator[tuple[str, SweepStatus | SpecError]]:
    """Each sweep of a storage: its name, and its status, or why it cannot be read."""
    storage = Storage(location)
    for name in storage.names():
        try:
            yield name, SweepReader(storage, name).status()
        except SpecError as error:
            yield name, error


def is_running(storage: Storage, name: str) -> bool:
    """Whether a launch works on the sweep, here or, with a URL, elsewhere. Raises SpecError if the store
    cannot be read."""
    return is_locked(storage.root / name) or bool(storage.runs_elsewhere(name))


def refuse_running(storage: Storage, name: str) -> None:
    """Raise SpecError if a launch works on the sweep, or another command that holds it for longer than
    LOCK_S."""
    storage.refuse_running_elsewhere(name)
    deadline = time.monotonic() + LOCK_S
    while is_locked(storage.root / name):
        if time.monotonic() < deadline:
            time.sleep(POLL_S)
            continue
        raise SpecError(
            f"{name} is running, or another command is at work on it: see it with "
            f"`{storage.command('status', name)}`, end a launch with `{storage.command('stop', name)}`"
        )


def check_known(storage: Storage, name: str) -> None:
    """Raise SpecError if the storage has no sweep of this name."""
    names, where = storage.names(), without_secret(storage.location)
    if name in names:
        return
    given = Path(name)
    if given.name in names and given.parent == Path(storage.location):
        raise SpecError(f"{name}: give the name alone: {given.name}")
    if not names:
        raise SpecError(f"{where} has no sweep {name!r}: it has none at all: give another --storage")
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {few(names)}"
    raise SpecError(f"{where} has no sweep {name!r}: {hint}")
