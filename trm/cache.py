"""Files that were costly to make, kept under the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trm"


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The file `name` of the cache; where it is not there, `make(path)` writes it first.

    Of the processes of a machine that ask at the same time one makes it, and the others wait. It is whole or
    absent: `make` works under another name. Raises OSError where the cache cannot be written, and what
    `make` raises.
    """
    path = cache_folder() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            partial = Path(tempfile.mkdtemp(dir=path.parent, suffix=".tmp"))
            try:
                make(partial / path.name)
                (partial / path.name).replace(path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return path
