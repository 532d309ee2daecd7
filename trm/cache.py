"""Files that are expensive to produce, cached in $XDG_CACHE_HOME/trm or ~/.cache/trm."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trm"


def cached_file(name: str, make: Callable[[Path], None]) -> Path:
    """The path of file `name` in the cache; if it does not exist, `make(path)` writes it first.

    If several processes ask at the same time, one makes the file and the others wait. `make` writes to a
    temporary path, so that the cached file is always complete. Raises OSError if the cache cannot be written,
    and the errors of `make`.
    """
    path = cache_folder() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # A file system may have no locks: then several processes may make the file, and the last one stays.
        with suppress(OSError, NotImplementedError):
            stack.enter_context(FileLock(path.with_name(f"{path.name}.lock")))
        if not path.exists():
            partial = Path(tempfile.mkdtemp(dir=path.parent, suffix=".tmp"))
            try:
                make(partial / path.name)
                (partial / path.name).replace(path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return path
