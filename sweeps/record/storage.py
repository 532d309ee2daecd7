"""Where sweeps are kept: a folder, or a place that fsspec knows (`s3://bucket/sweeps`) with a copy here.

With a URL the driver works in a copy, results/SLUG/NAME, and sends what changes; workers put checkpoints
there themselves, so that the machines of a cluster need no shared disk. An object cannot be appended to: the
journal is sent whole, every UPLOAD_S and at the end, and a driver's machine that is lost costs what was
trained since a trial's last checkpoint, which holds its reports too.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from sweeps.record.checkpoints import REPORT, CheckpointStore, NotKept
from sweeps.record.secrets import without_secret
from sweeps.space.errors import SpecError

logger = logging.getLogger(__name__)

UPLOAD_S = 10.0
LAST_S = 60.0  # for a send that is under way at the end
NEEDED = ("sweep.yaml", "journal.jsonl")  # the rest is derived from these


def is_url(place: str) -> bool:
    return "://" in place


class Storage:
    """`place` is what `--storage` gives. Raises SpecError where it cannot be reached."""

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self.root = Path(place)
        self._sent: dict[Path, float] = {}
        if is_url(place):
            self.root = Path("results") / _slug(self.place)
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
        """Where the sweep went on elsewhere, bring our copy up to it. Raises SpecError where both went on."""
        there = {file: f"{self._there}/{name}/{file}" for file in NEEDED}
        self._fs.invalidate_cache()
        if not all(self._fs.exists(path) for path in there.values()):
            return
        theirs = self._fs.cat_file(there["journal.jsonl"])
        mine = folder / "journal.jsonl"
        ours = mine.read_bytes() if mine.exists() else b""
        if ours.startswith(theirs):
            return
        if not theirs.startswith(ours):
            raise SpecError(
                f"--storage {without_secret(self.place)}: the sweep {name} went on both there and here "
                f"({mine}): move one of the two away"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for file, path in there.items():
            self._fs.get_file(path, str(folder / file))

    @contextmanager
    def uploading(self, name: str) -> Iterator[None]:
        """Send the sweep's journal again and again, and at the end all of its folder."""
        if not is_url(self.place):
            yield
            return
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(UPLOAD_S):
                self.send(name, NEEDED)

        thread = threading.Thread(target=work, name="upload", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(LAST_S)
            self.send(name)

    def send(self, name: str, files: Iterable[str] | None = None) -> str:
        """Send what has changed of the sweep's folder, or of these files of it; nothing to do where it is no
        copy. Returns why not all was sent, or ''."""
        if not is_url(self.place):
            return ""
        folder = self.root / name
        found = [folder / file for file in files] if files is not None else sorted(folder.rglob("*"))
        trouble = ""
        for path in found:
            if not path.is_file() or path.name == ".lock":
                continue
            try:
                changed = path.stat().st_mtime
                if self._sent.get(path) != changed:
                    target = f"{self._there}/{name}/{path.relative_to(folder).as_posix()}"
                    self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                    self._fs.put_file(str(path), target)
                    self._sent[path] = changed
            except Exception as error:  # as many kinds as there are stores
                trouble = f"{path.name} could not be sent to {without_secret(self.place)} ({_said(error)})"
                logger.warning("%s", trouble)
        return trouble


def _slug(url: str) -> str:
    """A folder's name for a URL, its own, and without a password that may be in it."""
    place = re.sub(r"//[^/]*@", "//", url)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", place).strip("-")
    return f"{readable}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _connected(url: str) -> tuple[Any, str]:
    try:
        fs, path = fsspec.core.url_to_fs(url)
        fs.exists(path)
    except Exception as error:
        raise SpecError(
            f"--storage {without_secret(url)}: cannot be reached ({_said(error)}): give a folder, "
            f"or a URL of fsspec's with its package installed and its credentials set"
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
        self._fs.invalidate_cache()  # this worker may have looked before
        if self._fs.exists(self._there):
            self._fs.get(f"{self._there}/", str(self._directory), recursive=True)

    def commit(self, source: Path, reports: Sequence[Mapping[str, float]]) -> Path:
        target = super().commit(source, reports)
        try:
            self._send(target)
        except Exception as error:
            raise NotKept(_said(error)) from error
        return target

    def _send(self, target: Path) -> None:
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


def checkpoint_store(place: str, metric: str, mode: str) -> CheckpointStore:
    """The store of a trial's checkpoints, by where `Storage.checkpoints` says they are."""
    if is_url(place):
        return RemoteCheckpoints(place, metric, mode)
    return CheckpointStore(Path(place), metric, mode)
