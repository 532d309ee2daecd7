"""What a launch records of its machine and its checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.record.provenance import commit, hardware


def test_a_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        done = subprocess.run(["git", "-C", tmp_path, *identity, *arguments], capture_output=True, check=True)
        return done.stdout.decode().strip()

    module = tmp_path / "provenance_example.py"
    module.write_text("def train(config, trial): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert commit("provenance_example:train") == ""  # in no checkout
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "--short=12", "HEAD")
    assert commit("provenance_example:train") == head
    module.write_text("def train(config, trial): pass\n")
    assert commit("provenance_example:train") == f"{head}, with uncommitted changes"
    monkeypatch.setenv("PATH", "")  # without git
    assert commit("provenance_example:train") == ""
    sys.modules.pop("provenance_example", None)


def test_the_machine_is_told_with_its_cores() -> None:
    assert hardware(1, gpus=False).endswith(", 1 core") and hardware(2, gpus=False).endswith(", 2 cores")
