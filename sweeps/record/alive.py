"""What a launch at a URL says of itself every few seconds, in the object FILE beside the journal.

A store has no locks, so that this alone keeps a launch on another machine from the same sweep.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

from analysis.format import duration

FILE = "alive"
SILENT_S = 600.0  # how long a launch on another machine may say nothing: an upload may take long


def content(root: Path) -> bytes:
    """The object's content, by a launch whose copy of the storage is in `root`."""
    said = {"time": round(time.time(), 3), "where": _where(root), "pid": os.getpid()}
    return json.dumps(said).encode()


def runs_elsewhere(found: bytes, root: Path) -> str:
    """Where a launch that wrote `found` seems to run, and when it last said so; '' if it has ended, or runs
    with its copy in `root`, where its lock tells."""
    try:
        said = json.loads(found)
    except ValueError:
        return "another machine"  # it is being written
    silent_s = time.time() - said["time"]
    host, _, _ = said["where"].partition(":")
    if said["where"] == _where(root) or silent_s >= SILENT_S:
        return ""
    if host == platform.node() and not _is_alive(said.get("pid")):
        return ""
    return f"{host} (it last said so {duration(silent_s)} ago)"


def _where(root: Path) -> str:
    return f"{platform.node()}:{root.resolve()}"


def _is_alive(pid: int | None) -> bool:
    """Whether the process runs; also if that is not known."""
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
