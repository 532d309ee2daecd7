"""Where sweeps are kept: a folder, or a place that fsspec knows (`s3://bucket/sweeps`) with a copy here.

With a URL the driver works in a copy, results/SLUG/NAME, and sends what changes; workers put checkpoints
there themselves, so that the machines of a cluster need no shared disk. An object cannot be appended to: the
journal is sent whole, every UPLOAD_S and at the end, and a driver's machine that is lost costs what was
trained since a trial's last checkpoint, which holds its reports too.
"""

from __future__ import annotations

import logging
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from sweeps.checkpoints import REPORT, CheckpointStore
from sweeps.errors import SpecError

logger = logging.getLogger(__name__)

UPLOAD_S = 10.0
_NEEDED = ("sweep.yaml", "journal.jsonl")  # the rest is derived from these


def is_url(place: str) -> bool:
    return "://" in place


class Storage:
    """`place` is what `--storage` gives. Raises SpecError where it cannot be reached."""

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self.root = Path(place)
        if is_url(place):
            self.root = Path("results") / re.sub(r"[^A-Za-z0-9]+", "-", self.place).strip("-")
            self._fs, self._there = _connected(self.place)

    def folder(self, name: str) -> Path:
        """The sweep's folder on this machine; of a URL, brought up to what is there."""
        folder = self.root / name
        if is_url(self.place):
            self._pull(name, folder)
        return folder

    def checkpoints(self, name: str) -> str:
        """Where workers keep a sweep's checkpoints."""
        root = self.place if is_url(self.place) else str(self.root.resolve())
        return f"{root}/{name}/checkpoints"

    def _pull(self, name: str, folder: Path) -> None:
        """A longer journal than ours means that the sweep went on elsewhere."""
        there = {file: f"{self._there}/{name}/{file}" for file in _NEEDED}
        if not all(self._fs.exists(path) for path in there.values()):
            return
        mine = folder / "journal.jsonl"
        if not mine.exists() or mine.stat().st_size < self._fs.size(there["journal.jsonl"]):
            folder.mkdir(parents=True, exist_ok=True)
            for file, path in there.items():
                self._fs.get_file(path, str(folder / file))

    @contextmanager
    def uploading(self, name: str) -> Iterator[None]:
        """Send the sweep's folder again and again, and at the end all of it. Trouble is logged, and what is
        here stays."""
        if not is_url(self.place):
            yield
            return
        stop, folder = threading.Event(), self.root / name
        sent: dict[Path, float] = {}

        def work() -> None:
            while not stop.wait(UPLOAD_S):
                self._send([folder / file for file in _NEEDED], folder, sent)

        thread = threading.Thread(target=work, name="upload", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.send(name, sent)

    def send(self, name: str, sent: dict[Path, float] | None = None) -> None:
        """Send all files of the sweep's folder; nothing to do where it is no copy."""
        if is_url(self.place):
            folder = self.root / name
            files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
            self._send(files, folder, sent if sent is not None else {})

    def _send(self, files: list[Path], folder: Path, sent: dict[Path, float]) -> None:
        for path in files:
            try:
                changed = path.stat().st_mtime
                if sent.get(path) != changed:
                    self._fs.makedirs(f"{self._there}/{folder.name}", exist_ok=True)
                    target = f"{self._there}/{folder.name}/{path.relative_to(folder).as_posix()}"
                    self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                    self._fs.put_file(str(path), target)
                    sent[path] = changed
            except Exception as error:  # as many kinds as there are stores
                logger.warning("%s could not be sent to %s (%s)", path.name, self.place, error)


def _connected(url: str) -> tuple[Any, str]:
    try:
        fs, path = fsspec.core.url_to_fs(url)
        fs.exists(path)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SpecError(
            f"--storage {url}: cannot be reached ({reason}): give a folder, or a URL of fsspec's with its "
            f"package installed and its credentials set"
        ) from error
    return fs, path


class RemoteCheckpoints(CheckpointStore):
    """A trial's checkpoints at a URL: kept in a scratch folder as they are on a disk, and sent from there.

    A checkpoint's report goes last, so that one that was not sent whole is known as damaged.
    """

    def __init__(self, url: str, metric: str, mode: str) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="sweep-checkpoints-")
        super().__init__(Path(self._scratch.name) / "trial", metric, mode)
        self._fs, self._there = fsspec.core.url_to_fs(url)
        if self._fs.exists(self._there):
            self._fs.get(f"{self._there}/", str(self._directory), recursive=True)

    def commit(self, source: Path, reports: Sequence[Mapping[str, float]]) -> Path:
        target = super().commit(source, reports)
        there = f"{self._there}/{target.name}"
        if self._fs.exists(there):
            self._fs.rm(there, recursive=True)
        files = sorted((path for path in target.rglob("*") if path.is_file()), key=lambda p: p.name == REPORT)
        for path in files:
            self._fs.makedirs(f"{there}/{path.relative_to(target).parent.as_posix()}", exist_ok=True)
            self._fs.put_file(str(path), f"{there}/{path.relative_to(target).as_posix()}")
        kept = {path.name for path in self._all()}
        for path in self._fs.ls(self._there, detail=False):
            name = path.rstrip("/").rpartition("/")[2]
            if name not in kept:
                self._fs.rm(f"{self._there}/{name}", recursive=True)
        return target


def checkpoint_store(place: str, metric: str, mode: str) -> CheckpointStore:
    """The store of a trial's checkpoints, by where `Storage.checkpoints` says they are."""
    if is_url(place):
        return RemoteCheckpoints(place, metric, mode)
    return CheckpointStore(Path(place), metric, mode)
