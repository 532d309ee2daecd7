"""A trial's checkpoints at a URL that fsspec can open."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import fsspec

from sweeps.record.checkpoints import REPORT, RESUME, CheckpointStore, Source
from sweeps.record.storage import is_url, short_text

logger = logging.getLogger(__name__)


class UploadFailed(Exception):
    """A checkpoint could not be uploaded; earlier ones are still there."""


class RemoteCheckpoints(CheckpointStore):
    """A trial's checkpoints at a URL. They are written to a temporary folder and uploaded from there.

    A checkpoint's .sweep.json is uploaded last, so that a partial upload is detected as damaged.
    """

    def __init__(self, url: str, metric: str, mode: str) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="sweep-checkpoints-")
        super().__init__(Path(self._scratch.name) / "trial", metric, mode)
        self._fs, self._remote = fsspec.core.url_to_fs(url)
        self._fs.invalidate_cache()  # fsspec may have cached an earlier listing in this worker
        if self._fs.exists(self._remote):
            self._fs.get(f"{self._remote}/", str(self._directory), recursive=True)

    def commit(self, source: Source, reports: Sequence[Mapping[str, float]]) -> Path:
        """As CheckpointStore.commit. Raises UploadFailed too."""
        target = super().commit(source, reports)
        try:
            self._upload(target)
        except Exception as error:
            raise UploadFailed(short_text(error)) from error
        try:
            self._delete_elsewhere()
        except Exception as error:  # the next commit tries again
            logger.warning("old checkpoints could not be deleted (%s)", short_text(error))
        return target

    def _upload(self, checkpoint: Path) -> None:
        target = f"{self._remote}/{checkpoint.name}"
        if self._fs.exists(target):
            self._fs.rm(target, recursive=True)
        files = [path for path in checkpoint.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == REPORT):
            self._fs.makedirs(f"{target}/{path.relative_to(checkpoint).parent.as_posix()}", exist_ok=True)
            self._fs.put_file(str(path), f"{target}/{path.relative_to(checkpoint).as_posix()}")

    def _delete_elsewhere(self) -> None:
        """Delete at the URL what is no longer in the temporary folder."""
        kept = {path.name for path in self._all()}
        for path in self._fs.ls(self._remote, detail=False):
            name = path.rstrip("/").rpartition("/")[2]
            inner = f"{self._remote}/{name}/{RESUME}"
            if name not in kept:
                self._fs.rm(f"{self._remote}/{name}", recursive=True)
            elif not (self._directory / name / RESUME).exists() and self._fs.exists(inner):
                self._fs.rm(inner, recursive=True)


def checkpoint_store(location: str, metric: str, mode: str) -> CheckpointStore:
    """The store of one trial's checkpoints. `location` is a folder or URL under `Storage.checkpoints`."""
    if is_url(location):
        return RemoteCheckpoints(location, metric, mode)
    return CheckpointStore(Path(location), metric, mode)
