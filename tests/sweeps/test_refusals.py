"""What the operating system refuses: one message, no traceback, and nothing started."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from bucket import Bucket

from sweeps.__main__ import main
from sweeps.dry_run import show_plan
from sweeps.options import LaunchOptions
from sweeps.plan.build import load_plan
from sweeps.process import locked
from sweeps.record import folder as sweep_folder
from sweeps.record.folder import new_sweep_id
from sweeps.record.storage import Storage
from sweeps.space.errors import SpecError
from sweeps.space.values import refuse_duplicates
from sweeps.sweep_status import refuse_running
from tests.sweeps.launches import Done, run_here
from tests.sweeps.spaces import TUNE, toy_plan, write_space
from tests.sweeps.sweep_folders import Played, height


def assert_one_message(done: Done, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_a_symlink_loop_as_storage(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert_one_message(run_here(tmp_path, write_space(tmp_path), "--storage", "loop"), "loop")


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    assert_one_message(run_here(tmp_path, write_space(tmp_path)), "results")


@contextmanager
def no_space_left(path: Path) -> Iterator[Path]:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    yield path


def test_a_disk_that_is_full_before_the_first_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_folder, "atomic_write", no_space_left)
    done = run_here(tmp_path, write_space(tmp_path))
    assert_one_message(done, "sweep.yaml", "No space left on device")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    assert_one_message(run_here(tmp_path, write_space(tmp_path)), "cannot be locked")


def test_a_second_launch_is_refused_under_any_name_of_the_storage(tmp_path: Path) -> None:
    played = Played(tmp_path / "results").run(1)
    before = (played.folder / "journal.jsonl").read_text()
    with locked(played.end()):
        for options in ([], ["--resume"], ["--storage", f"file://{tmp_path}/results"]):
            done = run_here(tmp_path, tmp_path / "results" / "toy.yaml", *options)
            assert_one_message(done, "toy is running", "sweeps status toy", "sweeps stop toy")
            assert "--resume" not in done.stderr
    assert (played.folder / "journal.jsonl").read_text() == before


def test_a_command_that_holds_the_sweep_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    played = Played(tmp_path / "results").run()
    folder = played.finish()
    with ExitStack() as held:
        held.enter_context(locked(folder))
        threading.Timer(0.3, held.close).start()
        done = run_here(tmp_path, tmp_path / "results" / "toy.yaml")
    assert done.returncode == 0 and "This sweep is finished" in done.stdout, done.stderr


def test_a_launch_at_a_url_where_another_machine_runs_the_sweep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Played(tmp_path / "remote").run(1).end()
    alive = folder / "alive"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    url = f"bucket://{tmp_path}/remote"
    arguments = ["run", str(tmp_path / "remote" / "toy.yaml"), "--resume", "--storage", url]
    alive.write_text(json.dumps({"time": time.time() - 100, "where": "node7:/results", "pid": 1}))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "toy is running on node7 (it last said so 1 min 40 s ago" in error and f"{url}/toy/alive" in error
    assert f"`python -m sweeps stop toy --storage {url}`" in error
    assert not list((tmp_path / "here").iterdir())
    for damaged in ("", "[]", "{}", "null"):
        alive.write_text(damaged)
        assert main(arguments) == 2
        assert "toy is running on another machine" in capsys.readouterr().err
    Played(tmp_path / "remote").run().finish()
    alive.write_text(json.dumps({"time": time.time() - 601, "where": "node7:/results", "pid": 1}))
    assert main([*arguments[:-1], url]) == 0  # it was silent for ten minutes
    assert "This sweep is finished" in capsys.readouterr().out


def test_a_launch_that_begins_elsewhere_in_the_meantime_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the moment at which this one says that it runs."""
    monkeypatch.chdir(tmp_path)
    folder = Played(tmp_path / "remote").run(1).end()
    storage = Storage(f"bucket://{tmp_path}/remote")
    refuse_running(storage, "toy")
    said = {"time": time.time(), "where": "node7:/results", "pid": 1}
    (folder / "alive").write_text(json.dumps(said))
    with pytest.raises(SpecError, match="toy is running on node7"), storage.uploading("toy"):
        pass
    assert json.loads((folder / "alive").read_text()) == said


def test_a_store_that_cannot_be_read_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("the store is down")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Bucket, "cat_file", fails)
    space = write_space(tmp_path)
    assert main(["run", str(space), "--storage", f"bucket://{tmp_path}/remote"]) == 2
    assert "toy/alive: cannot be read (the store is down)" in capsys.readouterr().err


def test_the_history_is_read_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other launch ends between the first look at the folder and the lock: its trials are not run
    again."""
    played = Played(tmp_path / "results").run(2)
    original = locked

    @contextmanager
    def later(folder: Path) -> Iterator[None]:
        played.run().finish()
        with original(folder):
            yield

    monkeypatch.setattr("sweeps.launch.locked", later)
    done = run_here(tmp_path, tmp_path / "results" / "toy.yaml", "--resume")
    assert done.returncode == 0 and "This sweep is finished" in done.stdout, done.stderr
    assert (played.folder / "journal.jsonl").read_text().count('"event":"end"') == 6


def test_a_dry_run_of_a_sweep_at_a_url_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Played(tmp_path / "remote").run(2).finish()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    url = f"bucket://{tmp_path}/remote"
    space = tmp_path / "remote" / "toy.yaml"
    show_plan(load_plan(space), LaunchOptions(space, dry_run=True, resume=True, storage=url))
    assert f"Of these, 2 have already run in {url}/toy" in capsys.readouterr().out
    with pytest.raises(SpecError, match=f"{url}/toy holds another sweep"):
        other = load_plan(space, ["lr=0.2"])
        show_plan(other, LaunchOptions(space, dry_run=True, resume=True, storage=url))
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("metric", ["../x", "a\nb", "x" * 300, "seed"])
def test_a_metric_whose_name_cannot_be_kept(tmp_path: Path, metric: str) -> None:
    with pytest.raises(SpecError, match=r"objective\.metric"):
        toy_plan(tmp_path, objective={"metric": metric, "mode": "max"})


def test_looks_over_more_seeds_than_their_levels_can_be_computed_for(tmp_path: Path) -> None:
    seeds = list(range(257))
    with pytest.raises(SpecError, match="set looks: none"):
        toy_plan(tmp_path, seeds=seeds)
    assert len(toy_plan(tmp_path, seeds=seeds, evidence={"looks": "none"}).spec.seeds) == 257


def test_duplicates_among_many_values_are_found_at_once() -> None:
    many = [*range(100_000), True, 1.0, [1], {"a": 1}]
    assert refuse_duplicates(many) is many
    for twice in (7, [1]):
        with pytest.raises(ValueError, match="stands twice"):
            refuse_duplicates([*many, twice])


def test_equal_sweeps_of_one_second_have_ids_of_their_own() -> None:
    ids = {new_sweep_id("0123456789abcdef", "2026-01-01T00:00:00+00:00") for _ in range(100)}
    assert len(ids) == 100 and all(each.startswith("0123456789ab@2026-01-01T00:00:00") for each in ids)


def test_an_arm_whose_draws_all_diverge_is_named_at_the_end(tmp_path: Path) -> None:
    played = Played(tmp_path / "results", tune=TUNE, search={"draws_per_arm": 2, "seeds": [0], "keep": 1})
    played.run(of=lambda arm, seed: float("nan") if arm == "c" else height(arm, seed)).finish()
    again = run_here(tmp_path, tmp_path / "results" / "toy.yaml")
    assert again.returncode == 0, again.stderr
    assert "Warning: c: every draw of its search diverged or failed, so it has no evidence" in again.stdout


def test_a_process_that_uses_ray_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook may: the launch's own end would end it."""
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    assert_one_message(run_here(tmp_path, write_space(tmp_path)), "call ray.shutdown() first")
    assert not (tmp_path / "results").exists()
