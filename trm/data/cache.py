"""Arrays that were costly to make, kept under the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def cached(name: str, key: Any, make: Callable[[], Arrays]) -> Arrays:
    """The arrays that `make` returns, from disk when the JSON-able `key` was seen before.

    Safe for processes that ask at the same time: each may make the arrays, and the last one's file stays.
    A cache that cannot be written or read is done without.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    path = cache_folder() / f"{name}-{digest}.npz"
    arrays = _read(path)
    if arrays is not None:
        return arrays
    arrays = make()
    with contextlib.suppress(OSError):
        _write(path, arrays)
    return arrays


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trm"


def file_digest(path: Path) -> str:
    """sha256 of a file's content, so that a file changed in place is a new one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {field: stored[field] for field in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent or torn: made anew
        return None


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stubs take a name for allow_pickle
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
