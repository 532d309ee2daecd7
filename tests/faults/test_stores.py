"""MLflow's store fails: training comes to its end without it, and what it lacks is written once it works."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeps.__main__ import main as sweeps
from tests.faults.harness import Done, Sweep, mounted

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

PATIENCE = "from sweeps import launch; launch.MLFLOW_TIMEOUT_S['completed'] = 15"  # minutes, otherwise


def _finished_without_it(done: Done) -> None:
    assert done.returncode == 0, done.stderr
    assert "Nothing is lost" in done.stdout and "python -m sweeps sync" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def _synced(sweep: Sweep, whole: Sweep) -> None:
    assert (
        sweeps(
            ["sync", sweep.results.name, "--storage", str(sweep.results.parent), "--tracking-uri", sweep.uri]
        )
        == 0
    )
    sweep.assert_ends_as(whole)


def test_the_store_is_locked(whole: Sweep, tmp_path: Path) -> None:
    shutil.copy(whole.folder / "mlflow.db", tmp_path / "mlflow.db")
    sweep = Sweep(tmp_path)
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    done = sweep.run(before=PATIENCE)
    holder.execute("ROLLBACK")
    holder.close()
    _finished_without_it(done)
    (tmp_path / "mlflow.db").unlink()  # it holds the other sweep's runs
    _synced(sweep, whole)


def test_the_store_cannot_be_made(whole: Sweep, tmp_path: Path) -> None:
    """A missing folder would be: MLflow makes it."""
    sweep = Sweep(tmp_path, uri=f"sqlite:///{tmp_path}/not-a-folder/mlflow.db")
    (tmp_path / "not-a-folder").touch()
    _finished_without_it(sweep.run())
    (tmp_path / "not-a-folder").unlink()
    _synced(sweep, whole)


def test_the_store_is_read_only(whole: Sweep, tmp_path: Path) -> None:
    with mounted(tmp_path / "read-only", "size=9m,ro") as folder:
        sweep = Sweep(tmp_path, uri=f"sqlite:///{folder}/mlflow.db")
        _finished_without_it(sweep.run(before=PATIENCE))
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        _synced(sweep, whole)


def test_the_stores_server_is_down(whole: Sweep, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # a port that nobody listens at afterwards
        port = server.getsockname()[1]
    sweep = Sweep(tmp_path, uri=f"http://127.0.0.1:{port}")
    _finished_without_it(sweep.run(before=PATIENCE))
    sweep.uri = f"sqlite:///{tmp_path}/mlflow.db"
    _synced(sweep, whole)


@contextmanager
def _a_server_that_never_answers() -> Iterator[int]:
    """Yields its port. It takes every connection."""
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)  # ends the accept, too
    for connection in taken:
        connection.close()


def test_the_stores_server_hangs(whole: Sweep, tmp_path: Path) -> None:
    with _a_server_that_never_answers() as port:
        sweep = Sweep(tmp_path, uri=f"http://127.0.0.1:{port}")
        _finished_without_it(sweep.run(before=PATIENCE))
    sweep.uri = f"sqlite:///{tmp_path}/mlflow.db"
    _synced(sweep, whole)
