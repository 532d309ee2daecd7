"""The process that writes to MLflow: it follows the journal, keeps secrets, and never outlives its launch."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from sweeps.observe import mlflow_process
from sweeps.observe.mlflow_process import MlflowProcess
from sweeps.observe.mlflow_writer import sync
from sweeps.record.mlflow_file import MlflowFile
from sweeps.status_text import status_text
from sweeps.sweep_status import read_status
from tests.sweeps.observe.test_mlflow_writer import all_points, runs, store, swept

__all__ = ["store"]

SECRET = "hunter2"
MARK = "sweeps.observe.mlflow_child"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = swept(tmp_path, "process")
    (folder / "logs").mkdir()
    return folder


@pytest.fixture
def started(results: Path) -> Iterator[Callable[[str], MlflowProcess]]:
    processes: list[MlflowProcess] = []

    def start(uri: str) -> MlflowProcess:
        processes.append(MlflowProcess(results, uri, str(results / "checkpoints")))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


def children(folder: Path) -> list[psutil.Process]:
    """The living writers of a sweep."""
    found = []
    for process in psutil.process_iter():
        try:
            if {MARK, str(folder)} <= set(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(happened: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_the_journal_is_followed_to_its_end_and_the_report_attached(
    store: str, results: Path, started: Callable[[str], MlflowProcess]
) -> None:
    journal = results / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    journal.write_bytes(b"".join(lines[:middle]) + lines[middle][:10])  # as while a line is being written
    process = started(store)
    wait_until(lambda: MlflowFile.read(results).offset > 0)
    assert "/#/experiments/" in process.link
    [child] = children(results)
    for kind in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # a terminal's, or a cluster's
        child.send_signal(kind)
    with journal.open("ab") as file:
        file.write(lines[middle][10:] + b"".join(lines[middle + 1 :]))
    assert process.drain() == ""
    (results / "report.html").write_text("report")
    assert process.attach() == ""
    assert not children(results)
    found = {run.data.tags["role"]: run for run in runs(store, "process")}
    there = MlflowClient(tracking_uri=store).list_artifacts(found["sweep"].info.run_id)
    assert "report.html" in [file.path for file in there]
    before = all_points(store, "process")
    sync(results, store)
    assert all_points(store, "process") == before and len(before) == 4


def test_a_store_that_is_dead_is_left_and_its_password_stands_nowhere(
    results: Path, started: Callable[[str], MlflowProcess]
) -> None:
    uri = f"http://me:{SECRET}@127.0.0.1:{closed_port()}"
    process = started(uri)
    wait_until(lambda: MlflowFile.read(results).error)
    [child] = children(results)
    assert SECRET not in " ".join(child.cmdline())
    begun = time.monotonic()
    error = process.drain()
    assert "Connection" in error or "refused" in error
    assert 4 < time.monotonic() - begun < 15
    assert not children(results)
    for path in results.rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text(errors="replace"), path


def test_the_error_of_an_earlier_launch_is_not_told_again(
    results: Path, started: Callable[[str], MlflowProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this one's process says nothing yet, as it imports MLflow."""
    silent, popen = ["sleep", "60"], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen(silent, **options))
    monkeypatch.setattr(mlflow_process, "SILENCE_S", 0.1)
    monkeypatch.setattr(mlflow_process, "FIRST_CONTACT_S", 1.0)
    MlflowFile("sqlite:///x.db", error="the error of yesterday").write(results)
    begun = time.monotonic()
    assert started("sqlite:///x.db").drain() == "the store has not answered at all"
    assert time.monotonic() - begun > 0.9


def test_a_launch_that_is_killed_leaves_no_process_behind(results: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from sweeps.observe.mlflow_process import MlflowProcess\n"
        f"MlflowProcess(Path({str(results)!r}), 'http://127.0.0.1:{closed_port()}', '')\n"
        "print('started', flush=True); time.sleep(60)"
    )
    launch = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert launch.stdout is not None and launch.stdout.readline() == "started\n"
    wait_until(lambda: MlflowFile.read(results).error)  # it now waits between two tries
    launch.kill()
    launch.communicate()
    wait_until(lambda: not children(results), limit_s=10)


def test_a_store_that_was_being_made_when_the_launch_ended_is_not_left_half_made(
    results: Path, tmp_path: Path, started: Callable[[str], MlflowProcess]
) -> None:
    (tmp_path / "new").mkdir()
    process = started(f"sqlite:///{tmp_path}/new/mlflow.db")
    wait_until(lambda: list((tmp_path / "new").iterdir()))
    process.close()
    assert not [path for path in (tmp_path / "new").iterdir() if "-journal" not in path.name]


def test_status_has_the_link(store: str, results: Path) -> None:
    status = read_status(results.name, str(results.parent))
    assert status.as_json()["mlflow"] is None
    sync(results, store)
    status = read_status(results.name, str(results.parent))
    link = MlflowFile.read(results).link
    assert link and status.as_json()["mlflow"] == link
    console = Console(file=io.StringIO(), width=400)
    console.print(status_text(status, 80))
    assert link in console.file.getvalue()  # type: ignore[attr-defined]
