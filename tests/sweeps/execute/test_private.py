"""What a local Ray instance keeps from other users of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sweeps.execute.private import LOCK, LONGEST, PREFIX, PrivateFolder, make_token, remove_token
from tests.conftest import ROOT

INSTANCE = """
import os, stat, time
from pathlib import Path
from sweeps.execute import cluster
cluster.connect(None, count_gpus=False)
import ray
session = Path(ray._private.worker._global_node.get_session_dir_path())
private = session.parent.parent
print(private, oct(stat.S_IMODE(private.stat().st_mode)))
print(ray.get(ray.remote(lambda: "worked").remote()), os.environ["RAY_AUTH_MODE"])
cluster.disconnect()
print(Path.home().joinpath(".ray").exists(), private.exists())
cluster.connect(None, count_gpus=False)
print(ray.get(ray.remote(lambda: "again").remote()))
cluster.disconnect()
"""


def test_a_ray_instance_leaves_nothing_to_others_and_nothing_behind(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", INSTANCE], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (folder, mode), worked, left, again = (line.split() for line in done.stdout.splitlines())
    assert Path(folder).name.startswith(PREFIX) and mode == "0o700"
    assert worked == ["worked", "token"]  # token authentication is on, and the token is known to all parts
    assert left == ["False", "False"] and again == ["again"]


def test_a_folder_that_a_crash_left_is_removed_and_one_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.execute.private._parent", lambda: tmp_path)
    in_use = PrivateFolder()
    left = tmp_path / f"{PREFIX}crashed"
    left.mkdir()
    (left / LOCK).touch()
    (left / "session").mkdir()
    other = PrivateFolder()
    assert in_use.path.exists() and not left.exists()
    for folder in (in_use, other):
        assert folder.path.stat().st_mode & 0o777 == 0o700
        folder.remove()
    assert not list(tmp_path.iterdir())


def test_a_long_path_is_left_for_one_that_sockets_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 10)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    folder = PrivateFolder()
    folder.remove()
    assert len(os.fsencode(folder.for_ray)) <= LONGEST


def test_a_folder_that_another_launch_takes_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.execute.private._parent", lambda: tmp_path)
    taken: list[FileLock] = []
    make = tempfile.mkdtemp

    def taken_once(**given: Any) -> str:
        made = make(**given)
        if not taken:
            taken.append(FileLock(Path(made) / LOCK))
            taken[0].acquire()
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", taken_once)
    folder = PrivateFolder()
    assert folder.path != Path(taken[0].lock_file).parent
    taken[0].release()
    folder.remove()


@pytest.mark.parametrize(("hours", "stays"), [(0, True), (2, False)])
def test_an_old_folder_without_a_lock_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int, stays: bool
) -> None:
    monkeypatch.setattr("sweeps.execute.private._parent", lambda: tmp_path)
    left = tmp_path / f"{PREFIX}crashed"
    left.mkdir()
    then = time.time() - hours * 3600
    os.utime(left, (then, then))
    PrivateFolder().remove()
    assert left.exists() == stays


def test_our_token_is_taken_out_of_the_environment_and_a_users_own_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    make_token()
    assert os.environ["RAY_AUTH_TOKEN"]
    remove_token()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the user's")
    make_token()
    remove_token()
    assert os.environ["RAY_AUTH_TOKEN"] == "the user's"
