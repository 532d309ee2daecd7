"""What is made once and kept: by one of many processes, whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trm.cache import cached_file

MAKE_SLOWLY = """
import sys, time
from trm.cache import cached_file

def make(path):
    print("made", flush=True)
    time.sleep(0.5)
    path.write_text("whole")

print(cached_file("thing", make).read_text(), end="")
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "trm"


def test_of_many_processes_one_makes_it() -> None:
    commands = [[sys.executable, "-c", MAKE_SLOWLY]] * 4
    running = [subprocess.Popen(c, cwd=ROOT, stdout=subprocess.PIPE, text=True) for c in commands]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert sorted(said) == ["made\nwhole", "whole", "whole", "whole"]


def test_what_fails_half_way_leaves_nothing(cache: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        cached_file("thing", fail)
    assert [path.name for path in cache.iterdir()] == ["thing.lock"]
    assert cached_file("thing", lambda path: path.write_text("whole") and None).read_text() == "whole"
