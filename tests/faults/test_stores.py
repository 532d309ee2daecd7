"""MLflow's store fails: training comes to its end without it, and what it lacks is written once it works."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from sweeps.__main__ import main as sweeps
from sweeps.record.mlflow_file import MlflowFile
from tests.faults.harness import Done, Sweep, mounted, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


def _finished_without_it(done: Done) -> None:
    assert done.returncode == 0, done.stderr
    assert "Nothing is lost" in done.stdout and "sweeps sync toy --storage" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def _synced(sweep: Sweep, whole: Sweep) -> None:
    assert (
        sweeps(
            ["sync", sweep.results.name, "--storage", str(sweep.results.parent), "--tracking-uri", sweep.uri]
        )
        == 0
    )
    sweep.assert_ends_as(whole)


def _free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_the_store_is_locked(whole: Sweep, tmp_path: Path) -> None:
    shutil.copy(whole.folder / "mlflow.db", tmp_path / "mlflow.db")
    sweep = Sweep(tmp_path)
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    done = sweep.run()
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
        _finished_without_it(sweep.run())
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        _synced(sweep, whole)


def test_the_stores_server_is_down(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, uri=f"http://127.0.0.1:{_free_port()}")
    _finished_without_it(sweep.run())
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
        _finished_without_it(sweep.run())
    sweep.uri = f"sqlite:///{tmp_path}/mlflow.db"
    _synced(sweep, whole)


class Server:
    """A server of MLflow's on a sqlite file, which can be killed and started again on its port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.uri = folder, f"http://127.0.0.1:{port}"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/server.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def test_the_stores_server_is_killed_and_comes_back(whole: Sweep, tmp_path: Path) -> None:
    server = Server(tmp_path, _free_port())
    server.start()
    try:
        sweep = Sweep(tmp_path, uri=server.uri)
        process = sweep.started(3)
        wait_until(lambda: bool(MlflowFile.read(sweep.results).runs) or process.poll() is not None)
        server.kill()
        sweep.wait_for_reports(30, process)  # training goes on
        server.start()
        done = sweep.finish(process)
        assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr
        if "Nothing is lost" in done.stdout:  # it came back later than the launch waits
            _synced(sweep, whole)
        sweep.assert_ends_as(whole)
    finally:
        server.kill()


@contextmanager
def _postgres(folder: Path) -> Iterator[tuple[str, Callable[[str], None]]]:
    """Yields the URI of a database, and what starts (`start`) and kills (`kill`) its server."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries or importlib.util.find_spec("psycopg2") is None:
        pytest.skip("needs PostgreSQL's server (Debian's package postgresql) and the package psycopg2")
    programs, data, port = binaries[-1].parent, folder / "data", _free_port()
    user = {"user": "postgres"} if os.getuid() == 0 else {}  # the server refuses to run as root
    data.mkdir()
    for each in (data, *data.parents):
        if user and each.is_relative_to(tempfile.gettempdir()) and each != Path(tempfile.gettempdir()):
            each.chmod(0o755)
    if user:
        shutil.chown(data, "postgres")
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", **user}
    subprocess.run([programs / "initdb", "-D", data, "-U", "me", "-A", "trust"], **quiet)

    def tell(what: str) -> None:
        if what == "start":
            options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
            subprocess.run(
                [programs / "pg_ctl", "-w", "-D", data, "-l", data / "log", "-o", options, "start"], **quiet
            )
        else:
            subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)

    tell("start")
    try:
        yield f"postgresql+psycopg2://me:hunter2@127.0.0.1:{port}/postgres", tell
    finally:
        with suppress(subprocess.CalledProcessError):
            tell("stop")


def test_a_postgresql_store_is_killed_and_comes_back(whole: Sweep, tmp_path: Path) -> None:
    with _postgres(tmp_path) as (uri, tell):
        MlflowClient(tracking_uri=uri).search_experiments()  # makes the tables
        sweep = Sweep(tmp_path, uri=uri)
        process = sweep.started(3)
        wait_until(lambda: bool(MlflowFile.read(sweep.results).runs) or process.poll() is not None)
        tell("stop")
        sweep.wait_for_reports(30, process)
        tell("start")
        done = sweep.finish(process)
        assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr
        if "Nothing is lost" in done.stdout:
            _synced(sweep, whole)
        sweep.assert_ends_as(whole)
        for path in sweep.results.rglob("*"):
            assert not path.is_file() or b"hunter2" not in path.read_bytes(), path
