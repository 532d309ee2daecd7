"""Cache of tensors that are expensive to compute; processes memory-map the file and share one copy."""

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
    """The result of `make`, loaded from disk if it was cached under the JSON-able `key`.

    The tensors are private: writing to them changes neither the file nor other processes. If several
    processes ask at the same time, the others wait for the first. If the cache cannot be read or written, it
    is not used. A truncated file is written again; changed bytes in a file are not detected here, but change
    the data's hash.
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
    """sha256 of a file's content, as a key that changes when the file is changed in place."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Content | None:
    try:
        content: Content = torch.load(path, mmap=True, weights_only=True)
    except Exception:  # torch.load raises many types of errors for a damaged file
        return None
    return content


def _write(path: Path, content: Content) -> None:
    with path.open("wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())
