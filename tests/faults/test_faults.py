"""What can go wrong around a sweep: it survives, or it stops cleanly and `--resume` ends it as if nothing had
been."""

from __future__ import annotations

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeps.tracking import main as tracking
from tests.faults.harness import Sweep, kill, wait_until, workers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The undisturbed sweep."""
    sweep = Sweep(tmp_path_factory.mktemp("whole"))
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    return sweep


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [1, 17, 45])
def test_the_driver_is_told_to_end_or_killed(
    whole: Sweep, tmp_path: Path, kind: signal.Signals, after: int
) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.start()
    sweep.wait_for_reports(after, process)
    process.send_signal(kind)
    ended = sweep.finish(process)
    assert ended.returncode == (-9 if kind == signal.SIGKILL else 128 + kind), ended.stderr
    resumed = sweep.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    sweep.assert_ends_as(whole)


@pytest.mark.parametrize("after", [3, 25])
def test_a_worker_is_killed_as_the_kernel_does_when_memory_is_out(
    whole: Sweep, tmp_path: Path, after: int
) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.start()
    sweep.wait_for_reports(after, process)
    workers(process)[0].kill()
    done = sweep.finish(process)
    assert done.returncode == 0, done.stderr
    assert len(sweep.events("retry")) == 1
    sweep.assert_ends_as(whole)


def test_the_newest_checkpoint_is_damaged(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.start()
    sweep.wait_for_reports(15, process)
    kill(process)
    for trial in (sweep.results / "checkpoints").iterdir():
        (max(trial.iterdir()) / "state.json").write_text("{")
    resumed = sweep.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    sweep.assert_ends_as(whole)


def test_the_journals_last_line_is_torn(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.start()
    sweep.wait_for_reports(15, process)
    kill(process)
    journal = sweep.results / "journal.jsonl"
    with journal.open("ab") as file:  # the line that was being written when the machine went down
        file.write(b'{"time":1795512567.046,"event":"report","trial_id":"b-d0-s0","step":3,"samp')
    resumed = sweep.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    sweep.assert_ends_as(whole)


@pytest.mark.parametrize("hook", ["on_trial_start", "on_step_begin"])
def test_a_callback_breaks(whole: Sweep, tmp_path: Path, hook: str) -> None:
    breaking = f"""
from sweeps import engine
whole, calls = engine._Watch.{hook}, []
def broken(self, *arguments, **more):
    calls.append(1)
    if len(calls) > 2 and len(self._conductor.state.trials["a-d0-s0"].reports) > 2:
        raise RuntimeError("a part of ours broke")
    return whole(self, *arguments, **more)
engine._Watch.{hook} = broken
"""
    sweep = Sweep(tmp_path)
    stopped = sweep.run(before=breaking)
    assert stopped.returncode == 1, stopped.stderr
    assert "a part of ours broke" in stopped.stdout and "--resume" in stopped.stdout
    assert "Traceback" not in stopped.stdout + stopped.stderr
    resumed = sweep.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    sweep.assert_ends_as(whole)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at `folder`."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_disk_is_full(whole: Sweep, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=3m") as disk:
        sweep = Sweep(tmp_path, storage=disk)
        process = sweep.start()
        sweep.wait_for_reports(10, process)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"0" * 4096)
            except OSError:
                pass
        stopped = sweep.finish(process)
        assert stopped.returncode == 1, stopped.stdout
        assert "No space left on device" in stopped.stdout and "--resume" in stopped.stdout
        filler.unlink()
        resumed = sweep.run("--resume")
        assert resumed.returncode == 0, resumed.stderr
        sweep.assert_ends_as(whole)


def _synced(sweep: Sweep, whole: Sweep, done: subprocess.CompletedProcess[str]) -> None:
    """Training came to its end without the store; what it lacks is written once it works."""
    assert done.returncode == 0, done.stderr
    assert "sweeps.tracking sync" in done.stdout
    assert tracking(["sync", str(sweep.results), "--tracking-uri", sweep.uri]) == 0
    sweep.assert_ends_as(whole)


def test_the_store_is_locked(whole: Sweep, tmp_path: Path) -> None:
    shutil.copy(whole.folder / "mlflow.db", tmp_path / "mlflow.db")
    sweep = Sweep(tmp_path, name="toy")
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    done = sweep.run()
    holder.execute("ROLLBACK")
    holder.close()
    assert done.returncode == 0, done.stderr
    assert "sweeps.tracking sync" in done.stdout
    (tmp_path / "mlflow.db").unlink()  # it holds the other sweep's runs
    _synced(sweep, whole, done)


def test_the_store_is_missing(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, uri=f"sqlite:///{tmp_path}/gone/mlflow.db")
    done = sweep.run()
    (tmp_path / "gone").mkdir()
    _synced(sweep, whole, done)


def test_the_store_is_read_only(whole: Sweep, tmp_path: Path) -> None:
    with mounted(tmp_path / "read-only", "size=9m,ro") as folder:
        sweep = Sweep(tmp_path, uri=f"sqlite:///{folder}/mlflow.db")
        done = sweep.run()
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        _synced(sweep, whole, done)


def test_the_store_hangs(whole: Sweep, tmp_path: Path) -> None:
    """A server that takes every connection and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    sweep = Sweep(tmp_path, uri=f"http://127.0.0.1:{server.getsockname()[1]}")
    done = sweep.run()
    for connection in taken:
        connection.close()
    server.close()
    sweep.uri = f"sqlite:///{tmp_path}/mlflow.db"
    _synced(sweep, whole, done)


def test_another_ray_instance_is_left_on_the_machine(whole: Sweep, tmp_path: Path) -> None:
    """Its driver is dead, and its address is where a plain `ray.init()` looks."""
    code = "import sweeps.engine as e, time; e.connect(None, False); print('up', flush=True); time.sleep(300)"
    left = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert left.stdout is not None and left.stdout.readline() == "up\n"
        left.send_signal(signal.SIGSTOP)  # neither alive nor gone
        sweep = Sweep(tmp_path)
        done = sweep.run()
        assert done.returncode == 0, done.stderr
        sweep.assert_ends_as(whole)
    finally:
        left.send_signal(signal.SIGCONT)
        left.terminate()
        left.wait(60)


def test_nothing_is_left_running(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.start()
    sweep.wait_for_reports(5, process)
    family = workers(process)
    kill(process)
    wait_until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in family))
