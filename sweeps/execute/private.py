"""What a local Ray instance must keep from other users of the machine: its files, and its token.

Ray's own defaults are a folder that everybody may write to and a token file that everybody may read. Either
lets another user run code as the owner of the sweep.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "trm-ray-"
LOCK = ".lock"  # held while the folder is in use, so that the folder of a launch that crashed is known
TOKEN = ".ray/auth_token"  # under the home folder, where Ray looks for one
NEW_S = 3600.0  # a folder older than this that has no lock was left by a crash
LONGEST = 40  # bytes of the path of Ray's folder: Ray adds up to 66, and a socket's path may have 107


class PrivateFolder:
    """A temporary folder of mode 0700 around that of one Ray instance, `for_ray`: sockets, logs and sessions.
    Ray gives its own folder the mode 0777 in any case.

    Creating one also removes those that crashed launches of this user have left.
    """

    def __init__(self) -> None:
        parent = _parent()
        _remove_left(parent)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mkdtemp makes it 0700
            self._lock = FileLock(self.path / LOCK, blocking=False)
            with suppress(Timeout, FileNotFoundError):
                self._lock.acquire()
                if (self.path / LOCK).exists():
                    break  # else another launch has taken the folder, not locked yet, for one that was left
        self.for_ray = self.path / "ray"

    def remove(self) -> None:
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _parent() -> Path:
    """Where temporary files go (RAY_TMPDIR, TMPDIR), or /tmp where that path is too long for sockets."""
    parent = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).resolve()
    is_short = len(os.fsencode(parent)) + len(f"/{PREFIX}12345678/ray") <= LONGEST
    return parent if is_short else Path("/tmp")


def _remove_left(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            about = folder.stat(follow_symlinks=False)
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            if not (folder / LOCK).exists() and time.time() - about.st_mtime < NEW_S:
                continue  # it is being made
            with FileLock(folder / LOCK, blocking=False):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):  # removed by another launch, or in use
            continue


def make_token() -> None:
    """Give the parts of a local Ray instance a token to know each other by, unless the user has one.

    It is handed on in the environment. Ray itself would write it into ~/.ray/auth_token, with a mode that
    lets everybody read it.
    """
    given = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(os.environ.get(name) for name in given) and not Path.home().joinpath(TOKEN).exists():
        os.environ["RAY_AUTH_TOKEN"] = _our_token()


def remove_token() -> None:
    """Take the token that `make_token` has made out of the environment, which later processes get."""
    if os.environ.get("RAY_AUTH_TOKEN") == _our_token():
        del os.environ["RAY_AUTH_TOKEN"]


@cache
def _our_token() -> str:
    """The same for all Ray instances of this process: Ray's client reads a token once."""
    return secrets.token_hex(32)
