"""The places in which a storage may be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest


@pytest.fixture(params=["folder", "bucket", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "sweeps")
    elif request.param == "bucket":
        yield f"bucket://{tmp_path}/sweeps"
    else:
        url = f"memory://{uuid.uuid4().hex}"
        yield url
        fs, path = fsspec.core.url_to_fs(url)
        if fs.exists(path):
            fs.rm(path, recursive=True)


def there(place: str) -> list[str]:
    fs, path = fsspec.core.url_to_fs(place)
    fs.invalidate_cache()
    return sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(path, detail=False))
