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
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from trm.cache import cached_file

log = logging.getLogger(__name__)

_ALWAYS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
_FLAGS: tuple[list[str], ...] = (["-march=native", "-fopenmp"], ["-march=native"], [])  # the best first
_PATIENCE_S = 60.0


class CompileError(RuntimeError):
    """A C file cannot be made a library here; the message says why."""


@lru_cache
def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C file, or None where they cannot be had here, which a warning then tells once."""
    try:
        loaded = _load(source)
    except (CompileError, OSError) as error:
        _tell(str(error))
        return None
    log.info("%s is used: what it does is done in C", source.name)
    return loaded


@lru_cache
def _tell(reason: str) -> None:
    """One reason, such as that there is no compiler, holds for every file."""
    log.warning("mixers are computed by PyTorch alone, which is slower than in C (%s)", reason)


def call(source: Path, name: str, numbers: Iterable[int], arrays: Iterable[Tensor]) -> None:
    """Call `int name(int64_t ..., float * ...)` of a library that is there.

    The arrays are laid out as the function expects. Raises MemoryError where it gives anything but 0.
    """
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
    if getattr(library(source), name)(*map(ctypes.c_int64, numbers), *pointers):
        raise MemoryError(f"{name} found no memory for the states of a row's tile of channels")


def _load(source: Path) -> ctypes.CDLL:
    compiler = _compiler()
    # A cache may be shared by unequal machines, and outlive a compiler.
    key = [
        source.read_text(),
        *compiler,
        _version(compiler),
        *_ALWAYS,
        str(_FLAGS),
        _processor(),
    ]
    name = f"{source.stem}-{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:24]}.so"

    def make(path: Path) -> None:
        _compile(compiler, source, path)

    try:
        path = cached_file(name, make)
        try:
            return ctypes.CDLL(str(path))
        except OSError:  # damaged, or what it needs has gone
            path.unlink()
            return ctypes.CDLL(str(cached_file(name, make)))
    except OSError:  # a cache that cannot be written: for this process alone
        with tempfile.TemporaryDirectory(prefix="trm-") as folder:
            make(Path(folder, name))
            return ctypes.CDLL(str(Path(folder, name)))


def _compiler() -> list[str]:
    """The command, `CC` if that is set."""
    given = os.environ.get("CC")
    found = (
        shlex.split(given) if given else [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    )
    if not found:
        raise CompileError("there is no C compiler: install one, such as gcc, or set CC")
    return found


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"]).stdout.partition("\n")[0]


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    told = ("model name", "flags", "Features", "CPU part")
    return "".join(sorted({line for line in lines if line.startswith(told)}))


def _compile(compiler: list[str], source: Path, target: Path) -> None:
    said = ""
    for flags in _FLAGS:
        done = _run([*compiler, *_ALWAYS, *flags, str(source), "-o", str(target)])
        if done.returncode == 0:
            log.info("%s: compiled with %s", source.name, " ".join([compiler[0], *flags]))
            return
        said = said or done.stderr.strip().partition("\n")[0] or f"exit status {done.returncode}"
    raise CompileError(f"{compiler[0]} does not compile it: {said}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{command[0]} does not run: {error}") from error
