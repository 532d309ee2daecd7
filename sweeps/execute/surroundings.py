"""What a trainer may change of its process, which is put back when its trial ends: workers are reused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def restored() -> Iterator[None]:
    """At the end the process has its working directory, umask and environment variables of before again."""
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    variables = dict(os.environ)
    folder = None
    with suppress(OSError):  # the folder was deleted
        folder = Path.cwd()
    try:
        yield
    finally:
        os.umask(mask)
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        for name, value in variables.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
