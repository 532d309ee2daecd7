"""What a launch records of its machine and its checkout, for those who read or repeat the sweep."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
from pathlib import Path

LIMIT_S = 10.0


def hardware(cores: int, gpus: bool) -> str:
    """The launching machine: "AMD EPYC 9654, 16 cores, 2 x NVIDIA H200"; GPUs only if the sweep uses some."""
    found = [_processor(), f"{cores} core{'s' * (cores != 1)}"]
    names = _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines() if gpus else []
    found += [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
    return ", ".join(found)


def _processor() -> str:
    """The model's name where Linux tells it, else the architecture."""
    told = Path("/proc/cpuinfo")
    for line in told.read_text(errors="replace").splitlines() if told.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit(trainer: str) -> str:
    """The commit of the trainer's code: "3fa29bc41d20", with ", with uncommitted changes" where files beside
    the trainer differ from it. '' where it is in no git checkout, or git is not there."""
    spec = importlib.util.find_spec(trainer.partition(":")[0].partition(".")[0])
    if spec is None or not spec.origin:
        return ""
    folder = str(Path(spec.origin).parent)
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    tracked = head and _git(folder, "ls-files", "--error-unmatch", spec.origin)
    if not head or not tracked:
        return ""
    return head + (", with uncommitted changes" if _git(folder, "status", "--porcelain", "--", ".") else "")


def _git(folder: str, *arguments: str) -> str:
    return _said("git", "-C", folder, *arguments)


def _said(*command: str) -> str:
    """What the command prints; '' where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
