"""Atomic writes: a reader never sees a partial file, even after a crash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file beside `path`; at the end it is synced to disk and replaces
    `path`."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield staging
        with staging.open("rb") as file:
            os.fsync(file.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)
