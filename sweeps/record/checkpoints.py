"""A trial's checkpoints on disk: the last one and the best one, each whole or not there at all.

DIR/TRIAL_ID/step_000000012/   what the trainer gave, and .sweep.json: all that the trial had reported by
                               then, and a checksum of every file, by which a damaged checkpoint is known
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.space.encoding import encode

REPORT = ".sweep.json"
_CHUNK = 1 << 22

logger = logging.getLogger(__name__)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_report(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / REPORT).read_text()))


def _checksums(directory: Path) -> dict[str, int]:
    """The CRC-32 of every file of a checkpoint: against damage, not against malice, and fast."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path != directory / REPORT:
            crc = 0
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    crc = zlib.crc32(chunk, crc)
            found[path.relative_to(directory).as_posix()] = crc
    return found


class NotKept(Exception):
    """A checkpoint could not be put where it belongs; the ones before it are there."""


class CheckpointStore:
    """`metric` and `mode` say which checkpoint is the best one; without the metric only the last is kept."""

    def __init__(self, directory: Path, metric: str, mode: str) -> None:
        self._directory = directory
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0

    def commit(self, source: Path, reports: Sequence[Mapping[str, float]]) -> Path:
        """Copy `source` in under the last report's step, durably, then drop what is neither last nor best.

        `reports` are all that the trial has made. Raises OSError; what was there before stays.
        """
        target = self._directory / f"step_{int(reports[-1]['step']):09d}"
        staging = self._directory / f".{target.name}.{os.getpid()}"
        # Halves that a crash has left, and damaged ones from which the trial did not go on.
        later = [path for path in self._all() if path.name > target.name]
        for path in [*self._directory.glob(".step_*"), *later]:
            shutil.rmtree(path, ignore_errors=True)
        try:
            shutil.copytree(source, staging)
            report = {"reports": [encode(dict(each)) for each in reports], "files": _checksums(staging)}
            (staging / REPORT).write_text(json.dumps(report))
            for path in [*staging.rglob("*"), staging]:
                _sync(path)
            shutil.rmtree(target, ignore_errors=True)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)  # a full disk is not to be filled with halves
            raise
        _sync(self._directory)
        self._prune()
        return target

    def latest(self) -> tuple[Path, list[dict[str, float]]] | None:
        """The newest whole checkpoint, and the reports up to and with its own; None where there is none."""
        for path in reversed(self._all()):
            try:
                report = _read_report(path)
                if report["files"] == _checksums(path):
                    reports = [{k: float(v) for k, v in each.items()} for each in report["reports"]]
                    return (path, reports) if reports else None
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                pass
            logger.warning("%s is damaged: going on from the one before it", path)
        return None

    def _all(self) -> list[Path]:
        return sorted(self._directory.glob("step_*"))

    def _score(self, path: Path) -> float:
        try:
            value = self._sign * float(_read_report(path)["reports"][-1][self._metric])
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return -math.inf
        return value if math.isfinite(value) else -math.inf

    def _prune(self) -> None:
        paths = self._all()
        best = max(paths, key=self._score)
        for path in paths[:-1]:
            if path != best:
                shutil.rmtree(path, ignore_errors=True)
