"""What can go wrong around a sweep: it survives, or it stops cleanly and `--resume` ends it as if nothing had
been. docs/faults.md says what is to be expected of each."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.record.storage import Storage
from tests.faults.harness import BASE, Sweep, kill, mounted, workers
from tests.sweeps.execute.test_trial import payload, played
from tests.trm.test_trainer import make_config

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [1, 17, 45])
def test_the_driver_is_told_to_end_or_killed(
    whole: Sweep, tmp_path: Path, kind: signal.Signals, after: int
) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.started(after)
    process.send_signal(kind)
    ended = sweep.finish(process)
    assert ended.returncode == (-9 if kind == signal.SIGKILL else 128 + kind), ended.stderr
    sweep.assert_nothing_is_left()
    sweep.resumes_as(whole)


def test_a_terminal_is_closed(whole: Sweep, tmp_path: Path) -> None:
    """The kernel sends SIGHUP to every process of the terminal, Ray's too; the shell sends it once more."""
    sweep = Sweep(tmp_path)
    screen, terminal = pty.openpty()
    process = sweep.start(
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal)
    is_closing = threading.Event()

    def look() -> None:
        while not is_closing.is_set():
            if select.select([screen], [], [], 0.1)[0]:
                os.read(screen, 65536)

    looking = threading.Thread(target=look)
    looking.start()
    sweep.wait_for_reports(5, process)
    is_closing.set()
    looking.join()
    os.close(screen)
    time.sleep(0.02)
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert [event["status"] for event in sweep.events("finish")] == ["interrupted"]
    assert set(sweep.statuses().values()) <= {"completed", "interrupted", "not_started"}
    sweep.assert_nothing_is_left()
    sweep.resumes_as(whole)


def test_a_trial_that_runs_when_the_driver_is_told_to_end_saves_what_it_has_trained(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, base={**BASE, "seconds_a_step": 3.0})
    process = sweep.started(2)
    time.sleep(1.0)  # in the middle of a step
    told = time.time()
    process.terminate()
    assert sweep.finish(process).returncode == 128 + signal.SIGTERM
    late = [event for event in sweep.events("report") if event["time"] > told]
    running = {event["trial_id"] for event in sweep.events("start")}
    assert sorted(event["trial_id"] for event in late) == sorted(running)
    for event in late:
        [history] = sorted((sweep.results / "checkpoints" / event["trial_id"]).iterdir())[-1:]
        assert f'"step": {event["step"]}' in (history / "state.json").read_text()


@pytest.mark.parametrize("after", [3, 25])
def test_a_worker_is_killed_as_the_kernel_does_when_memory_is_out(
    whole: Sweep, tmp_path: Path, after: int
) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.started(after)
    workers(process)[0].kill()
    done = sweep.finish(process)
    assert done.returncode == 0, done.stderr
    assert len(sweep.events("retry")) == 1
    sweep.assert_ends_as(whole)


def test_rays_own_server_dies(whole: Sweep, tmp_path: Path) -> None:
    """Ray ends every process that has not reached its control store (GCS) for a minute, the driver too."""
    sweep = Sweep(tmp_path)
    process = sweep.started(after=3)
    (server,) = [each for each in sweep.family() if each.name() == "gcs_server"]
    server.kill()
    ended = sweep.finish(process)
    assert ended.returncode == 1 and "Failed to connect to GCS" in ended.stderr
    sweep.assert_nothing_is_left()
    sweep.resumes_as(whole)


def test_a_worker_dies_between_two_trials(whole: Sweep, tmp_path: Path) -> None:
    """Ray tells of the death of a worker that is set up anew twice."""
    dying = """
import ray
from ray.tune.execution.tune_controller import TuneController
whole, killed = TuneController._schedule_trial_reset, []
def reset(self, trial, *arguments):
    if not killed:
        killed.append(trial)
        ray.kill(trial.temporary_state.ray_actor)
    return whole(self, trial, *arguments)
TuneController._schedule_trial_reset = reset
"""
    sweep = Sweep(tmp_path)
    done = sweep.run(before=dying)
    assert done.returncode == 0, done.stderr
    assert len(sweep.events("retry")) == 1
    sweep.assert_ends_as(whole)


def test_the_newest_checkpoint_is_damaged(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.killed(after=15)
    for trial in (sweep.results / "checkpoints").iterdir():
        (max(trial.iterdir()) / "state.json").write_text("{")
    sweep.resumes_as(whole)


def test_the_journals_last_line_is_torn(whole: Sweep, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.killed(after=15)
    with (sweep.results / "journal.jsonl").open("ab") as file:  # being written when the machine went down
        file.write(b'{"time":1795512567.046,"event":"report","trial_id":"b-d0-s0","step":3,"samp')
    sweep.resumes_as(whole)


@pytest.mark.parametrize("hook", ["on_trial_start", "on_step_begin"])
def test_a_callback_breaks(whole: Sweep, tmp_path: Path, hook: str) -> None:
    breaking = f"""
from sweeps.execute import tuner
whole, calls = tuner.CallbackAdapter.{hook}, []
def broken(self, *arguments, **more):
    calls.append(1)
    if len(calls) > 2 and len(self._controller.state.trials["a-d0-s0"].reports) > 2:
        raise RuntimeError("a part of ours broke")
    return whole(self, *arguments, **more)
tuner.CallbackAdapter.{hook} = broken
"""
    sweep = Sweep(tmp_path)
    stopped = sweep.run(before=breaking)
    assert stopped.returncode == 1, stopped.stderr
    assert "a part of ours broke" in stopped.stdout and "--resume" in stopped.stdout
    assert "Traceback" not in stopped.stdout + stopped.stderr
    sweep.resumes_as(whole)


def test_the_disk_is_full(whole: Sweep, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=3m") as disk:
        sweep = Sweep(tmp_path, storage=disk)
        process = sweep.started(10)
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
        sweep.resumes_as(whole)


def test_the_disk_is_full_when_a_checkpoint_is_written_to_it(tmp_path: Path) -> None:
    """By torch.save, which hides the disk's error behind one of its own."""
    config = make_config(model={"hidden_size": 128}).model_dump(mode="json")
    with mounted(tmp_path / "disk", "size=2m") as disk:
        given = replace(payload(tmp_path), trainer="trm.trainer:train", config=config)
        *reports, end = played(replace(given, checkpoints=str(disk / "a")))
        assert end.outcome == "completed", end.log
        told = [f"step {step} has no checkpoint: No space left on device" for step in (5, 10, 15, 20)]
        assert [report.warnings for report in reports] == [[each] for each in told]
        assert list((disk / "a").iterdir()) == []


def test_the_drivers_machine_is_lost_with_its_disk(whole: Sweep, tmp_path: Path) -> None:
    """With a URL for a storage, another machine goes on from what is there."""
    url = f"bucket://{tmp_path}/bucket"
    sweep = Sweep(tmp_path, storage=tmp_path / Storage(url).root)
    sweep.arguments[1] = url
    process = sweep.start(before="import sweeps.record.storage as s; s.UPLOAD_S = 0.2")
    sweep.wait_for_reports(15, process)
    kill(process)
    shutil.rmtree(sweep.results)
    sweep.resumes_as(whole)
    assert (tmp_path / "bucket" / "toy" / "report.html").exists()


def test_another_ray_instance_is_left_on_the_machine(whole: Sweep, tmp_path: Path) -> None:
    """Its driver hangs, and its address is where a plain `ray.init()` looks."""
    sweep = Sweep(tmp_path)
    code = "from sweeps.execute.cluster import connect; import time; connect(None, False); "
    code += "print('up', flush=True); time.sleep(300)"
    left = subprocess.Popen(
        [sys.executable, "-c", code], env=sweep.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert left.stdout is not None and left.stdout.readline() == "up\n"
        left.send_signal(signal.SIGSTOP)  # neither alive nor gone
        done = sweep.run()
        assert done.returncode == 0, done.stderr
        sweep.assert_ends_as(whole)
    finally:
        left.send_signal(signal.SIGCONT)
        left.terminate()
        left.communicate(timeout=60)
    sweep.assert_nothing_is_left()


def test_nothing_is_left_running(whole: Sweep, tmp_path: Path) -> None:
    """Neither by a launch that came to its end nor by one that was killed, with its Ray instance."""
    whole.assert_nothing_is_left()
    sweep = Sweep(tmp_path)
    process = sweep.started(5)
    assert len(workers(process)) >= 1
    assert len(sweep.family()) > 3  # the driver, Ray's own and the workers are all known by their mark
    process.kill()
    process.communicate(timeout=60)
    sweep.assert_nothing_is_left()
