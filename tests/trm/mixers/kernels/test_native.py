"""C compiled on first use: kept, made anew for another source, done without where there is no compiler."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trm.mixers.kernels import native
from trm.mixers.kernels.native import library

ADD = "int add(int a, int b) { return a + b; }\n"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    library.cache_clear()
    native._warn_once.cache_clear()
    yield tmp_path / "cache" / "trm"
    library.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "add.c"
    path.write_text(ADD)
    return path


def compiler(tmp_path: Path, script: str) -> str:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@needs_compiler
def test_it_is_compiled_once_and_again_when_it_changes(source, cache, monkeypatch):
    assert library(source).add(2, 3) == 5
    library.cache_clear()  # as another process would have it
    monkeypatch.setattr(native, "_compile", None)  # it would have to be called
    assert library(source).add(2, 3) == 5
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    library.cache_clear()
    source.write_text(ADD.replace("+", "-"))
    assert library(source).add(2, 3) == -1
    assert len(list(cache.glob("*.so"))) == 2


@needs_compiler
def test_a_cache_that_cannot_be_written_is_done_without(source, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert library(source).add(2, 3) == 5


@needs_compiler
def test_a_damaged_library_is_compiled_anew(source, cache):
    # By another process, as this one would go on with what it has loaded once.
    code = "from pathlib import Path; from trm.mixers.kernels.native import library; "
    code += f"library(Path({str(source)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
    (built,) = cache.glob("*.so")
    built.write_bytes(b"no library")
    assert library(source).add(2, 3) == 5
    assert built.read_bytes().startswith(b"\x7fELF")


@needs_compiler
def test_a_compiler_that_lacks_some_flags_is_asked_without_them(source, tmp_path, monkeypatch):
    lacks = 'case "$*" in *-fopenmp*|*-march*) echo "unknown flag" >&2; exit 1;; esac\nexec cc "$@"'
    monkeypatch.setenv("CC", compiler(tmp_path, lacks))
    assert library(source).add(2, 3) == 5


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'add.c:1: error: no' >&2; exit 1", "does not compile add.c: add.c:1: error: no"),
        ("touch ${@: -1}; exit 1", "does not compile add.c"),
        ("sleep 5", "does not run: .*timed out"),
        ("for last; do :; done; [ $last = --version ] || echo 'no library' > $last", "ELF|too short"),
    ],
)
def test_a_compiler_that_fails_is_told_once(source, tmp_path, monkeypatch, caplog, script, reason):
    monkeypatch.setattr(native, "_TIMEOUT_S", 0.5)
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    with caplog.at_level(logging.WARNING):
        assert library(source) is None
        assert library(source) is None
    (record,) = caplog.records
    assert "mixers are computed by PyTorch alone, which is slower than in C" in record.message
    assert re.search(reason, record.message)


def test_no_compiler_at_all_is_told_once_for_all_files(source, monkeypatch, caplog):
    monkeypatch.setattr(os, "environ", {**os.environ, "PATH": "/nowhere"})
    other = source.with_name("other.c")
    other.write_text(ADD)
    assert library(source) is None and library(other) is None
    assert caplog.text.count("there is no C compiler: install one, such as gcc, or set CC") == 1
