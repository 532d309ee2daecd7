"""A trial's log, logs/TRIAL_ID.log: all that its process writes to stdout and stderr, C code too.

Each attempt has a header line. The output goes straight into the file, so that a crash loses none of it. The
file is kept under MAX_BYTES: the oldest lines are dropped. The end of the log of a failed attempt goes into
the journal, as the machine of a worker may have a disk of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

MAX_BYTES = 1_000_000
LAST_LINES = 20  # of a failed attempt, for the journal
LAST_CHARACTERS = 4000
LINES_BEFORE_DUMP = 5
_DUMP = re.compile(r"^(?:Fatal Python error: .*|Timeout \([0-9:.]+\)!)$", re.MULTILINE)  # faulthandler's
_DROPPED = b"[... earlier lines were dropped ...]\n"


def last_lines(text: str) -> str:
    """The end of a log, short enough for the journal."""
    lines = text.rstrip().splitlines()[-LAST_LINES:]
    return "\n".join(lines)[-LAST_CHARACTERS:]


def crash_in(text: str) -> str:
    """The line with which Python told of its process's last crash, or of the end by max_silence_s; '' if
    there is none."""
    dumps = _DUMP.findall(text)
    return dumps[-1] if dumps else ""


def last_words(text: str) -> str:
    """The end of the log of a process that died. Where Python has written its stacks, which have the latest
    call first, it is their beginning and what came before them."""
    dumps = list(_DUMP.finditer(text))
    if not dumps:
        return last_lines(text)
    before, after = text[: dumps[-1].start()], text[dumps[-1].start() :]
    lines = before.splitlines()[-LINES_BEFORE_DUMP:]
    lines += after.splitlines()[: LAST_LINES - LINES_BEFORE_DUMP]
    return "\n".join(line[: LAST_CHARACTERS // LAST_LINES] for line in lines)


def read_attempt(path: Path, attempt: int) -> str:
    """What the attempt has written into the log at `path`; '' if that cannot be read, or is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 2 * MAX_BYTES))  # more only where it was written just before a crash
            content = file.read()
    except OSError:
        return ""
    _, header, text = content.rpartition(_header_start(attempt))
    return text.partition(b"\n")[2].decode("utf-8", "replace") if header else ""


def _header_start(attempt: int) -> bytes:
    return f"==== attempt {attempt}, ".encode()


class TrialLog:
    """The log of one attempt at a trial. Where `path` cannot be written, a temporary file stands in for it.

    A full disk is no error: what does not fit is lost. Raises OSError if there is no room for temporary files
    either.
    """

    def __init__(self, path: Path, attempt: int, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.descriptor, self._editor = _opened(path)
        except OSError:
            with tempfile.NamedTemporaryFile(prefix="sweep-log-") as file:
                self.descriptor, self._editor = _opened(Path(file.name))
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rest = f"{socket.gethostname()}, process {os.getpid()}, {now} ====\n"
        self._header = _header_start(attempt) + rest.encode()
        self._begin = os.fstat(self.descriptor).st_size + len(self._header)
        self._write(self._header)

    def write(self, text: str) -> None:
        self._write(text.encode("utf-8", "replace"))

    def _write(self, data: bytes) -> None:
        with suppress(OSError):
            os.write(self.descriptor, data)

    def trim(self) -> None:
        """Drop the oldest lines, if the file has grown too large. Call it now and then. What the trainer
        writes in the moment before the file is cut is lost."""
        size = os.fstat(self.descriptor).st_size
        if size <= self._max_bytes:
            return
        begin = max(self._begin, size - self._max_bytes // 2)
        kept = os.pread(self._editor, 2 * self._max_bytes, begin)
        _, newline, lines = kept.partition(b"\n")
        content = self._header + _DROPPED + (lines if newline else kept)  # a progress bar may be one line
        with suppress(OSError):  # first the copy at the beginning: a crash here doubles lines, and loses none
            os.pwrite(self._editor, content, 0)
            late = os.pread(self._editor, self._max_bytes, begin + len(kept))  # written in between
            os.pwrite(self._editor, late, len(content))
            os.ftruncate(self._editor, len(content) + len(late))
            self._begin = len(self._header)

    def last_lines(self) -> str:
        """The end of what this attempt has written."""
        size = os.fstat(self.descriptor).st_size
        begin = max(self._begin, size - 4 * LAST_CHARACTERS)
        return last_lines(os.pread(self._editor, size, begin).decode("utf-8", "replace"))

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Send the process's stdout and stderr into the log, at the level of file descriptors."""
        before = sys.stdout, sys.stderr
        for stream in before:
            with suppress(OSError):
                stream.flush()
        kept = [os.dup(1), os.dup(2)]
        os.dup2(self.descriptor, 1)
        os.dup2(self.descriptor, 2)
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        try:
            yield
        finally:
            _flush_c()
            sys.stdout, sys.stderr = before
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._editor)


def _opened(path: Path) -> tuple[int, int]:
    """The file for appending, and again for changing it in place."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    return descriptor, os.open(path, os.O_RDWR | os.O_CLOEXEC)


class _Output(FileIO):
    """A file descriptor whose write errors are ignored: a full disk must not fail a trainer that prints."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            super().write(data)
        return len(data)


def _stream(descriptor: int) -> TextIOWrapper:
    raw: Any = _Output(descriptor, "w", closefd=False)
    return TextIOWrapper(raw, encoding="utf-8", errors="replace", write_through=True)


def _flush_c() -> None:
    """Write what C code has printed and the C library still holds."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)
