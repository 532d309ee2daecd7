"""Where sweeps are stored: a local folder, or a URL that fsspec can open (`s3://bucket/sweeps`).

With a URL the driver works in a local copy, results/SLUG/NAME, and uploads files that have changed. Workers
upload checkpoints themselves, so that the machines of a cluster need no shared disk. Objects in a store
cannot be appended to: the whole journal is uploaded, every UPLOAD_S and at the end. There are no locks
either: a launch says every UPLOAD_S that it runs, for other machines. If the driver's machine is lost, only
the training since each trial's last checkpoint is lost: a checkpoint holds the trial's reports too.

The URL of a local folder (`file://`) is that folder: its lock must hold whatever it is called.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from sweeps.record import alive, mlflow_file, stop_request
from sweeps.record.file_names import DEFAULT_STORAGE, JOURNAL, PRIMARY
from sweeps.record.reading import SweepFiles
from sweeps.record.secrets import without_secret
from sweeps.space.errors import SpecError

logger = logging.getLogger(__name__)

UPLOAD_S = 10.0
JOIN_S = 60.0  # how long the end of a launch waits for an upload in progress
LOCAL = ("file://", "local://")  # fsspec's names of the local file system


def is_url(location: str) -> bool:
    return "://" in location


class Storage:
    """`location` is the value of `--storage`. Raises SpecError if it is a URL that cannot be reached, or the
    folder of one sweep."""

    def __init__(self, location: str | Path) -> None:
        self.location = _without_local_scheme(str(location)).rstrip("/") or "/"
        self.root = Path(self.location)
        self._uploaded: dict[Path, float] = {}  # file -> its modification time when it was uploaded
        if is_url(self.location):
            self.root = Path(DEFAULT_STORAGE) / _slug(self.location)
            self._fs, self._remote = _connect(self.location)
        elif _is_there(self.root, PRIMARY):
            raise SpecError(
                f"--storage {self.location}: this is the folder of one sweep: give the one that holds it, "
                f"{self.root.resolve().parent}"
            )

    def folder(self, name: str) -> Path:
        """The sweep's local folder. With a URL, its journal is first downloaded if the remote one is
        newer."""
        folder = self.root / name
        if is_url(self.location):
            self._download(name, folder)
        return folder

    def names(self) -> list[str]:
        """The names of what looks like a sweep, sorted. Raises SpecError if there is no such storage."""
        if is_url(self.location):
            self._fs.invalidate_cache()
            paths = [path for file in PRIMARY for path in self._fs.glob(f"{self._remote}/*/{file}")]
            return sorted({str(path).rstrip("/").split("/")[-2] for path in paths})
        try:
            folders = [path for path in self.root.iterdir() if path.is_dir()]
        except FileNotFoundError as error:
            raise SpecError(
                f"--storage {self.location}: there is no such folder: give the one that holds the sweeps"
            ) from error
        except OSError as error:
            raise SpecError(f"--storage {self.location}: cannot be read ({error.strerror})") from error
        return sorted(path.name for path in folders if any((path / file).exists() for file in PRIMARY))

    def files(self, name: str) -> SweepFiles:
        """The sweep's files to read from, where they are newest: with a URL the local copy or the remote
        ones."""
        local = SweepFiles(str(self.root / name))
        if not is_url(self.location):
            return local
        remote = SweepFiles(without_secret(f"{self.location}/{name}"), self._fs, f"{self._remote}/{name}")
        try:
            return local if local.size(JOURNAL) >= remote.size(JOURNAL) else remote
        except OSError:
            return remote

    def checkpoints(self, name: str) -> str:
        """The folder or URL in which workers store a sweep's checkpoints."""
        root = self.location if is_url(self.location) else str(self.root.resolve())
        return f"{root}/{name}/checkpoints"

    def entries(self, location: str) -> list[str]:
        """The names in a folder of this storage, or under its URL; none if there is no such folder."""
        try:
            if not is_url(self.location):
                return sorted(path.name for path in Path(location).iterdir())
            self._fs.invalidate_cache()
            _, path = fsspec.core.url_to_fs(location)
            return sorted(each.rstrip("/").rpartition("/")[2] for each in self._fs.ls(path, detail=False))
        except OSError:
            return []

    @contextmanager
    def snapshot(self, name: str) -> Iterator[Path]:
        """A folder with the sweep's journal and sweep.yaml to read from: its own, or with a URL a temporary
        copy, so that nothing is written here."""
        if not is_url(self.location):
            yield self.root / name
            return
        files = self.files(name)
        with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
            for file in PRIMARY:
                with suppress(OSError):
                    Path(scratch, file).write_bytes(files.read(file))
            try:
                yield Path(scratch)
            except SpecError as error:
                raise SpecError(str(error).replace(scratch, files.where)) from error

    def _download(self, name: str, folder: Path) -> None:
        """Update the local copy if the remote journal has more events, written by another machine.

        Raises SpecError if the journals have diverged: each has events that the other lacks.
        """
        remote_paths = {file: f"{self._remote}/{name}/{file}" for file in PRIMARY}
        self._fs.invalidate_cache()
        if not all(self._fs.exists(path) for path in remote_paths.values()):
            return
        remote = self._fs.cat_file(remote_paths[JOURNAL])
        local_path = folder / JOURNAL
        local = local_path.read_bytes() if local_path.exists() else b""
        if local.startswith(remote):
            return
        if not remote.startswith(local):
            raise SpecError(
                f"--storage {without_secret(self.location)}: the sweep {name} was continued both there and "
                f"in the local copy ({local_path}): move one of the two away"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for file, path in remote_paths.items():
            self._fs.get_file(path, str(folder / file))
        with suppress(FileNotFoundError):  # a sweep that MLflow has nothing of has none
            content = self._fs.cat_file(f"{self._remote}/{name}/{mlflow_file.FILE}")
            (folder / mlflow_file.FILE).write_bytes(content)

    @contextmanager
    def uploading(self, name: str) -> Iterator[None]:
        """Upload the sweep's journal every UPLOAD_S, and at the end its whole folder. Raises SpecError if a
        launch has begun elsewhere since one was looked for."""
        if not is_url(self.location):
            yield
            return
        self.refuse_running_elsewhere(name)
        stop = threading.Event()
        self._take_request(name)  # one that a crash left
        self._say_alive(name)

        def work() -> None:
            while not stop.wait(UPLOAD_S):
                self._say_alive(name)
                self.send(name, PRIMARY)
                if self._take_request(name):
                    stop_request.ask(self.root / name)

        thread = threading.Thread(target=work, name="upload", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(JOIN_S)
            self.send(name)
            self._take(name, alive.FILE)

    def runs_elsewhere(self, name: str) -> str:
        """Where a launch of the sweep seems to run, on another machine, or on this one in another folder; ''
        if nowhere. Of one in this folder its lock tells. Raises SpecError if the store cannot be read."""
        if not is_url(self.location):
            return ""
        self._fs.invalidate_cache()
        try:
            return alive.runs_elsewhere(self._fs.cat_file(f"{self._remote}/{name}/{alive.FILE}"), self.root)
        except FileNotFoundError:
            return ""
        except Exception as error:  # each store raises its own kinds
            where = f"{without_secret(self.location)}/{name}/{alive.FILE}"
            raise SpecError(f"{where}: cannot be read ({short_text(error)})") from error

    def command(self, verb: str, name: str, *options: str) -> str:
        """What a user types to do this to the sweep."""
        at = [] if self.location == DEFAULT_STORAGE else ["--storage", without_secret(self.location)]
        return shlex.join(["python", "-m", "sweeps", verb, name, *at, *options])

    def refuse_running_elsewhere(self, name: str) -> None:
        """Raise SpecError if a launch of the sweep seems to run elsewhere."""
        if elsewhere := self.runs_elsewhere(name):
            raise SpecError(
                f"{name} is running on {elsewhere}: wait for it, or end it with "
                f"`{self.command('stop', name)}`; if that machine is lost, delete "
                f"{without_secret(self.location)}/{name}/{alive.FILE}"
            )

    def _say_alive(self, name: str) -> None:
        try:
            self._fs.makedirs(f"{self._remote}/{name}", exist_ok=True)
            self._fs.pipe_file(f"{self._remote}/{name}/{alive.FILE}", alive.content(self.root))
        except Exception as error:  # each store raises its own kinds
            logger.warning("%s/%s: %s", name, alive.FILE, short_text(error))

    def ask_to_stop(self, name: str) -> None:
        """Ask the launch that works on the sweep to end, wherever it runs. Raises OSError."""
        if (self.root / name).is_dir():
            stop_request.ask(self.root / name)
        if is_url(self.location):
            self._fs.pipe_file(f"{self._remote}/{name}/{stop_request.FILE}", b"")

    def withdraw_stop(self, name: str) -> None:
        """Remove a request that no launch has taken."""
        stop_request.withdraw(self.root / name)
        if is_url(self.location):
            self._take_request(name)

    def _take_request(self, name: str) -> bool:
        """Whether another machine has asked the launch to end; the request is removed."""
        return self._take(name, stop_request.FILE)

    def _take(self, name: str, file: str) -> bool:
        """Remove an object of the sweep. Returns whether it was there."""
        path = f"{self._remote}/{name}/{file}"
        try:
            self._fs.invalidate_cache()
            if not self._fs.exists(path):
                return False
            self._fs.rm_file(path)
        except Exception as error:  # each store raises its own kinds
            logger.warning("%s: %s", path, short_text(error))
            return False
        return True

    def send(self, name: str, files: Iterable[str] | None = None) -> str:
        """Upload the files of the sweep's folder that have changed, or only those named in `files`.

        Without a URL there is nothing to do. Returns why a file was not uploaded, or ''.
        """
        if not is_url(self.location):
            return ""
        folder = self.root / name
        paths = [folder / file for file in files] if files is not None else sorted(folder.rglob("*"))
        failure = ""
        for path in paths:
            if not path.is_file() or path.name in (".lock", stop_request.FILE):
                continue
            try:
                changed = path.stat().st_mtime
                if self._uploaded.get(path) != changed:
                    target = f"{self._remote}/{name}/{path.relative_to(folder).as_posix()}"
                    self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                    self._fs.put_file(str(path), target)
                    self._uploaded[path] = changed
            except Exception as error:  # each store raises its own kinds
                where = without_secret(self.location)
                failure = f"{path.name} could not be uploaded to {where} ({short_text(error)})"
                logger.warning("%s", failure)
        return failure


def _without_local_scheme(location: str) -> str:
    """The path of a `file://` URL; any other location as it is."""
    for scheme in LOCAL:
        path = location.removeprefix(scheme)
        if path != location and not path.startswith("/"):
            raise SpecError(f"--storage {location}: give a whole path, as in {scheme}/data/sweeps")
        location = path
    return location


def _is_there(folder: Path, files: Iterable[str]) -> bool:
    """Whether the folder has all of these files; False where it cannot be looked into, as is told later."""
    try:
        return all((folder / file).exists() for file in files)
    except OSError:
        return False


def _slug(url: str) -> str:
    """A unique folder name for a URL, without the user and password in it."""
    public = re.sub(r"//[^/]*@", "//", url)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", public).strip("-")
    return f"{readable}-{hashlib.sha256(public.encode()).hexdigest()[:8]}"


def short_text(error: Exception) -> str:
    """The message of a store's error on one line, without secrets."""
    return without_secret(" ".join(str(error).split()))[:200] or type(error).__name__


def _connect(url: str) -> tuple[Any, str]:
    """fsspec's file system, and the path in it. Raises SpecError if it cannot be reached."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        fs.exists(path)
    except Exception as error:
        raise SpecError(
            f"--storage {without_secret(url)}: cannot be reached ({short_text(error)}): give a folder, "
            f"or a URL that fsspec can open, with its package installed and its credentials set"
        ) from error
    return fs, path
