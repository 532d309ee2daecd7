"""What a launch at a URL says of itself every few seconds, in the object FILE beside the journal.

A store has no locks, so that this alone keeps a launch on another machine from the same sweep.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path

from analysis.format import duration

FILE = "alive"
SILENT_S = 600.0  # how long a launch on another machine may say nothing: an upload may take long


def content(root: Path) -> bytes:
    """The object's content, by a launch whose copy of the storage is in `root`."""
    return json.dumps({"time": round(time.time(), 3), "pid": os.getpid(), **_here(root)}).encode()


def runs_elsewhere(found: bytes, root: Path) -> str:
    """Where a launch that wrote `found` seems to run, and when it last said so; '' if it has ended, or runs
    with its copy in `root`, where its lock tells."""
    try:
        said = json.loads(found)
        silent_s, here = time.time() - said["time"], _here(root)
        host, machine = said["where"].partition(":")[0], said.get("machine", "")
        is_here = (said["where"], machine) == (here["where"], here["machine"])
        if is_here or silent_s >= SILENT_S or (machine == here["machine"] and not _is_alive(said["pid"])):
            return ""
    except (ValueError, TypeError, KeyError):
        return "another machine"  # it is being written, or was written by another version
    return f"{host} (it last said so {duration(max(0.0, silent_s))} ago)"


def _here(root: Path) -> dict[str, str]:
    """`machine` tells apart what has process ids of its own: machines, and containers on one."""
    machine = platform.node()
    with suppress(OSError):  # not on Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    return {"where": f"{platform.node()}:{root.resolve()}", "machine": machine}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
