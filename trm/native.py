"""C files of this package as libraries, compiled on first use for the processor at hand."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from trm.cache import made_once

log = logging.getLogger(__name__)

_EXACT = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]  # nothing that reorders a sum
_FLAGS: tuple[list[str], ...] = (["-march=native", "-fopenmp"], ["-march=native"], [])  # the best first
_PATIENCE_S = 60.0


class CompileError(RuntimeError):
    """A C file cannot be made a library here; the message says why."""


@lru_cache
def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C file, or None where they cannot be had here, which a warning then tells once."""
    try:
        loaded = ctypes.CDLL(str(_built(source)))
    except (CompileError, OSError) as error:
        log.warning(
            "%s: what it does is done by PyTorch instead, several times slower (%s)", source.name, error
        )
        return None
    log.info("%s: compiled for this processor", source.name)
    return loaded


def _built(source: Path) -> Path:
    compiler = _compiler()
    key = "\0".join([source.read_text(), *compiler, _processor()])
    name = f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    try:
        return made_once(name, lambda path: _compile(compiler, source, path))
    except OSError:  # a cache that cannot be written: for this process alone
        path = Path(tempfile.mkdtemp(prefix="trm-"), name)
        _compile(compiler, source, path)
        return path


def _compiler() -> list[str]:
    """The command, `CC` if that is set."""
    given = os.environ.get("CC")
    found = (
        shlex.split(given) if given else [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    )
    if not found:
        raise CompileError("there is no C compiler: install one, such as gcc, or set CC")
    return found


def _processor() -> str:
    """What -march=native depends on: a cache may be shared by unequal machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def _compile(compiler: list[str], source: Path, target: Path) -> None:
    said = ""
    for flags in _FLAGS:
        command = [*compiler, *_EXACT, *flags, str(source), "-o", str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(f"{compiler[0]} does not run: {error}") from error
        if done.returncode == 0:
            return
        said = said or done.stderr.strip().partition("\n")[0] or f"exit status {done.returncode}"
    raise CompileError(f"{compiler[0]} does not compile it: {said}")
