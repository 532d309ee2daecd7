"""Reads a sweep's files where they are, in a folder or at a URL, and writes nothing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweeps.record.file_names import JOURNAL, SPACE
from sweeps.record.journal import Event, events_in
from sweeps.space.errors import SpecError


@dataclass(frozen=True)
class SweepFiles:
    """The files of one sweep. `where` is its folder or URL; `fs`, an fsspec file system, reads from a URL,
    and is None for a folder."""

    where: str
    fs: Any = None
    path: str = ""  # in the file system

    def read(self, name: str, offset: int = 0) -> bytes:
        """The file's content from the byte `offset` on; b"" where there is none. Raises OSError."""
        if self.fs is None:
            with Path(self.where, name).open("rb") as file:
                file.seek(offset)
                return file.read()
        self.fs.invalidate_cache()
        path = f"{self.path}/{name}"
        content: bytes = self.fs.cat_file(path, start=offset) if self.fs.size(path) > offset else b""
        return content

    def size(self, name: str) -> int:
        """The file's bytes. Raises OSError."""
        if self.fs is None:
            return Path(self.where, name).stat().st_size
        self.fs.invalidate_cache()
        return int(self.fs.size(f"{self.path}/{name}"))

    def space(self) -> dict[str, Any]:
        """The content of sweep.yaml, as `sweeps.record.folder` wrote it. Raises SpecError."""
        try:
            # Quicker than `load_yaml`, and the same for what `dump_yaml` wrote.
            space = yaml.load(self.read(SPACE), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            for key in ("name", "objective", "resolved"):
                space[key]
            space["objective"]["metric"], space["resolved"]["arms"]
        except FileNotFoundError as error:
            raise SpecError(f"{self.where}: has no {SPACE}: it holds no sweep, or is damaged") from error
        except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise SpecError(f"{self.where}/{SPACE}: is damaged ({reason}): restore the file") from error
        found: dict[str, Any] = space
        return found


class JournalFollower:
    """Reads a journal, and later what was added to it."""

    def __init__(self, files: SweepFiles) -> None:
        self._files = files
        self._offset = 0  # after the last whole line that was read
        self._line = 1

    def read(self) -> list[Event]:
        """The events since the last call. Raises SpecError for a damaged journal."""
        try:
            content = self._files.read(JOURNAL, self._offset)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SpecError(f"{self._files.where}/{JOURNAL}: cannot be read ({error.strerror})") from error
        events = list(events_in(io.BytesIO(content), f"{self._files.where}/{JOURNAL}", self._line))
        self._offset += content.rfind(b"\n") + 1
        self._line += len(events)
        return events

    @property
    def is_replaced(self) -> bool:
        """Whether the journal is another one than was read: it has become shorter."""
        try:
            return self._files.size(JOURNAL) < self._offset
        except OSError:
            return self._offset > 0
