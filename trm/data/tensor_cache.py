"""Tensors that were costly to make, mapped from the cache: a machine's processes have one copy of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from trm.cache import cached_file

Content = Mapping[str, torch.Tensor | str]


def cached(name: str, key: Any, make: Callable[[], Content]) -> Content:
    """What `make` returns, from disk where the JSON-able `key` was seen before.

    The tensors are private: what is written to them, the file and other processes do not see. Processes that
    ask at the same time wait for the first one. A cache that cannot be written or read is done without. A
    file that is cut off is made anew; bytes that have changed inside it are not noticed here, but change the
    data's hash.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    made: list[Content] = []

    def write(path: Path) -> None:
        made.append(make())
        _write(path, made[0])

    try:
        path = cached_file(f"{name}-{digest}.pt", write)
        content = _read(path)
        if content is None:
            path.unlink()
            content = _read(cached_file(path.name, write))
    except OSError:
        content = None
    if content is not None:
        return content
    return made[0] if made else make()


def file_digest(path: Path) -> str:
    """sha256 of a file's content, so that a file changed in place is a new one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Content | None:
    try:
        content: Content = torch.load(path, mmap=True, weights_only=True)
    except Exception:  # torch.load raises many kinds for a damaged file
        return None
    return content


def _write(path: Path, content: Content) -> None:
    with path.open("wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())
