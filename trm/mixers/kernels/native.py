"""Compiles C files of this package for the current processor on first use, and loads them as libraries."""

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
# Tried in this order until the compiler accepts one.
_FLAGS: tuple[list[str], ...] = (["-march=native", "-fopenmp"], ["-march=native"], [])
_TIMEOUT_S = 60.0


class CompileError(RuntimeError):
    """A C file cannot be compiled on this machine; the message gives the reason."""


@lru_cache
def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C file, or None, with one warning, if it cannot be compiled or loaded."""
    try:
        loaded = _load(source)
    except (CompileError, OSError) as error:
        _warn_once(str(error))
        return None
    log.info("%s: loaded", source.name)
    return loaded


@lru_cache
def _warn_once(reason: str) -> None:
    """Cached, because one reason, such as a missing compiler, applies to every file."""
    log.warning("mixers are computed by PyTorch alone, which is slower than in C (%s)", reason)


def call(source: Path, name: str, numbers: Iterable[int], arrays: Iterable[Tensor]) -> None:
    """Call `int name(int64_t ..., float * ...)` of a library that `library` has loaded.

    The arrays must have the function's layout. Raises MemoryError if it does not return 0.
    """
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
    if getattr(library(source), name)(*map(ctypes.c_int64, numbers), *pointers):
        raise MemoryError(f"{name} could not allocate memory for the states of a row's tile of channels")


def _load(source: Path) -> ctypes.CDLL:
    compiler = _compiler()
    # The cache may be shared by different machines, and the compiler may be updated.
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
        except OSError:  # damaged, or a library that it needs is missing
            path.unlink()
            return ctypes.CDLL(str(cached_file(name, make)))
    except OSError:  # the cache cannot be written: compile for this process alone
        with tempfile.TemporaryDirectory(prefix="trm-") as folder:
            make(Path(folder, name))
            return ctypes.CDLL(str(Path(folder, name)))


def _compiler() -> list[str]:
    """The compiler's command: `CC` if it is set, else the first of cc, gcc and clang that is installed."""
    if variable := os.environ.get("CC"):
        command = shlex.split(variable)
    else:
        command = [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not command:
        raise CompileError("there is no C compiler: install one, such as gcc, or set CC")
    return command


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"]).stdout.partition("\n")[0]


def _processor() -> str:
    """The description of the processor, on which -march=native depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    fields = ("model name", "flags", "Features", "CPU part")
    return "".join(sorted({line for line in lines if line.startswith(fields)}))


def _compile(compiler: list[str], source: Path, target: Path) -> None:
    reason = ""
    for flags in _FLAGS:
        done = _run([*compiler, *_ALWAYS, *flags, str(source), "-o", str(target)])
        if done.returncode == 0:
            log.info("%s: compiled with %s", source.name, " ".join([compiler[0], *flags]))
            return
        reason = reason or done.stderr.strip().partition("\n")[0] or f"exit status {done.returncode}"
    raise CompileError(f"{compiler[0]} does not compile {source.name}: {reason}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{command[0]} does not run: {error}") from error
