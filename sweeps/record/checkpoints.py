"""A trial's checkpoints on disk: the last one and the best one. A checkpoint is complete or absent.

DIR/TRIAL_ID/step_000000012/   the trainer's files, and .sweep.json with all reports up to this step and a
                               checksum of every file, to detect a damaged checkpoint
                      resume/  where the trainer has it: what only resuming needs. It is deleted from the best
                               checkpoint once that is no longer the last

`sweeps.execute.trial` writes them, and reads the latest one when a trial is resumed.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeps.space.encoding import encode

REPORT = ".sweep.json"
RESUME = "resume"
_NAME = re.compile(r"step_(\d{9,})")
_CHUNK = 1 << 22
_SYNCS_AT_ONCE = 32

logger = logging.getLogger(__name__)

Source = Path | Callable[[Path], object]  # see CheckpointStore.commit


def step_of(name: str) -> int | None:
    """The step of a checkpoint's folder, by its name; None for another folder."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(paths: Sequence[Path]) -> None:
    """Sync many files. Each waits for the disk; the file system answers those that wait together at once."""
    with ThreadPoolExecutor(min(_SYNCS_AT_ONCE, len(paths))) as threads:
        list(threads.map(_sync, paths))


def _read_report(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / REPORT).read_text()))


def _checksums(directory: Path) -> dict[str, int]:
    """The CRC-32 of every file of a checkpoint by its relative path. It is fast, and detects damage."""
    checksums = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path != directory / REPORT:
            crc = 0
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    crc = zlib.crc32(chunk, crc)
            checksums[path.relative_to(directory).as_posix()] = crc
    return checksums


def _resumable(path: Path) -> tuple[list[dict[str, float]], str]:
    """All reports up to a checkpoint; or none, and why no trial can be resumed from it."""
    try:
        report = _read_report(path)
        recorded, found = report["files"], _checksums(path)
        reports = [{k: float(v) for k, v in each.items()} for each in report["reports"]]
        lacking = recorded.keys() - found.keys()
        is_whole = bool(reports) and found.items() <= recorded.items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], "is damaged"
    if not is_whole or any(not name.startswith(f"{RESUME}/") for name in lacking):
        return [], "is damaged"
    return ([], f"is kept without its {RESUME}/") if lacking else (reports, "")


class CheckpointStore:
    """The checkpoints of one trial in `directory`.

    The best one has the highest (mode "max") or lowest (mode "min") `metric` at its step; if no report has
    the metric, only the last one is kept.
    """

    def __init__(self, directory: Path, metric: str, mode: str) -> None:
        self._directory = directory
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._reports: list[Mapping[str, float]] = []  # those of the last commit, and each as JSON
        self._encoded: list[str] = []
        self._scores: dict[str, float] = {}  # by checkpoint

    def commit(self, source: Source, reports: Sequence[Mapping[str, float]]) -> Path:
        """Keep a checkpoint under the last report's step, sync it to disk, and delete what is no longer
        needed of the others. Returns the new checkpoint's directory.

        `source` is a directory, which is copied; or a function that writes the files into the empty directory
        that it is given, which is renamed, so that they are written once. `reports` are all reports of the
        trial so far. Raises OSError, and what `source` raises; the earlier checkpoints are kept then.
        """
        target = self._directory / f"step_{int(reports[-1]['step']):09d}"
        staging = self._directory / f".{target.name}.{os.getpid()}"
        self._delete_partial()
        for path in self._all():
            if path.name > target.name:  # it was passed over on resume
                shutil.rmtree(path, ignore_errors=True)
        try:
            if callable(source):
                staging.mkdir(parents=True)
                source(staging)
            else:
                shutil.copytree(source, staging)
            files = json.dumps(_checksums(staging))
            (staging / REPORT).write_text(f'{{"reports": {self._as_json(reports)}, "files": {files}}}')
            _sync_all([*staging.rglob("*"), staging])
            shutil.rmtree(target, ignore_errors=True)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)  # a part of one would fill the disk further
            raise
        _sync(self._directory)
        self._scores[target.name] = self._score_of(reports[-1])
        self._prune()
        return target

    def _as_json(self, reports: Sequence[Mapping[str, float]]) -> str:
        """The reports as a list. Those of the last commit, which these begin with in a trial, are not encoded
        again: there may be thousands."""
        known = len(self._reports)
        if list(reports[:known]) != self._reports:
            known = 0
        self._encoded[known:] = [json.dumps(encode(dict(each))) for each in reports[known:]]
        self._reports[known:] = reports[known:]
        return f"[{', '.join(self._encoded)}]"

    def latest(self) -> tuple[Path, list[dict[str, float]]] | None:
        """The newest checkpoint that a trial can be resumed from, and all reports up to its step; or None.

        A warning says which ones were passed over, and why. What a crash left of others is deleted.
        """
        self._delete_partial()
        found, passed = None, []
        for path in reversed(self._all()):
            reports, problem = _resumable(path)
            if reports:
                found = path, reports
                break
            passed.append(f"the checkpoint {path.name} {problem}")
        if passed:
            goes_on = f"goes on from {found[0].name}" if found else "begins anew"
            logger.warning("%s: the trial %s", ", ".join(passed), goes_on)
        return found

    def _delete_partial(self) -> None:
        for path in self._directory.glob(".step_*"):
            shutil.rmtree(path, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(self._directory.glob("step_*"))

    def _score(self, path: Path) -> float:
        """The metric at the checkpoint's step, higher is better; -inf if it is missing or not finite."""
        if path.name not in self._scores:
            try:
                self._scores[path.name] = self._score_of(_read_report(path)["reports"][-1])
            except (OSError, ValueError, KeyError, TypeError, IndexError):
                return -math.inf
        return self._scores[path.name]

    def _score_of(self, report: Mapping[str, Any]) -> float:
        value = self._sign * float(report.get(self._metric, math.nan))
        return value if math.isfinite(value) else -math.inf

    def _prune(self) -> None:
        """Delete checkpoints that are neither the last nor the best, and the best one's RESUME."""
        *earlier, last = self._all()
        best = max([*earlier, last], key=self._score)
        for path in earlier:
            if path != best or self._score(path) == -math.inf:
                shutil.rmtree(path, ignore_errors=True)
            elif (path / RESUME).is_dir():
                dropped = self._directory / f".{path.name}.{RESUME}"
                with suppress(OSError):  # else the next commit tries again
                    (path / RESUME).rename(dropped)  # a crash leaves it or not, and never a part of it
                    shutil.rmtree(dropped, ignore_errors=True)
