from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.record import checkpoints
from sweeps.record.checkpoints import CheckpointStore


def _commit(store: CheckpointStore, folder: Path, step: int, value: float) -> None:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "weights").write_text(str(step))
    store.commit(source, [{"step": step, "acc": value}])


def _save(step: int) -> Callable[[Path], None]:
    """Writes a checkpoint with a folder of what only resuming needs."""

    def save(folder: Path) -> None:
        assert not list(folder.iterdir())
        (folder / "weights").write_text(str(step))
        (folder / "resume" / "inner").mkdir(parents=True)
        for name in ("moments", "inner/carry"):
            (folder / "resume" / name).write_text(str(step))

    return save


def _kept(folder: Path) -> list[str]:
    """The trial's checkpoints, and what is beside them; one with a folder to resume from with a +."""
    paths = sorted((folder / "t").iterdir())
    return [path.name.lstrip("step_0") + "+" * (path / "resume").exists() for path in paths]


def test_the_last_and_the_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    for step, value in enumerate([0.1, 0.9, 0.3, float("nan"), 0.2], start=1):
        _commit(store, tmp_path, step, value)
    assert [path.name for path in sorted((tmp_path / "t").iterdir())] == ["step_000000002", "step_000000005"]
    path, (metrics,) = store.latest()
    assert (path / "weights").read_text() == "5"
    assert metrics == {"step": 5, "acc": 0.2}


def test_without_the_metric_the_last_one_alone_is_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    for step in (1, 2, 3):
        store.commit(_save(step), [{"step": step, "loss": 0.5}])
    assert _kept(tmp_path) == ["3+"]


def test_for_a_loss_the_best_is_the_lowest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "min")
    for step, value in enumerate([0.5, 0.1, 0.3], start=1):
        _commit(store, tmp_path, step, value)
    assert [path.name for path in sorted((tmp_path / "t").iterdir())] == ["step_000000002", "step_000000003"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / ".sweep.json").write_text("{"),
        lambda path: (path / ".sweep.json").unlink(),
        lambda path: (path / ".sweep.json").write_text("[1]"),
        lambda path: (path / "weights").write_text("3"),
        lambda path: (path / "weights").unlink(),
        lambda path: (path / "weights").write_bytes(b""),
    ],
    ids=["torn report", "no report", "another report", "changed", "missing", "empty"],
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    _commit(store, tmp_path, 1, 0.9)
    _commit(store, tmp_path, 2, 0.1)
    damage(tmp_path / "t" / "step_000000002")
    path, (metrics,) = store.latest()
    assert path.name == "step_000000001" and metrics == {"step": 1.0, "acc": 0.9}


def test_what_a_crash_left_is_never_seen_and_deleted(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    assert store.latest() is None
    for name in (".step_000000003.77", ".step_000000002.resume"):
        (tmp_path / "t" / name).mkdir(parents=True)
    assert store.latest() is None
    assert _kept(tmp_path) == []


# What only resuming needs


def test_the_best_keeps_what_only_resuming_needs_as_long_as_it_is_the_last(tmp_path: Path) -> None:
    store, kept = CheckpointStore(tmp_path / "t", "acc", "max"), []
    for step, value in enumerate([0.1, 0.9, 0.3, 0.2, 0.95], start=1):
        store.commit(_save(step), [{"step": step, "acc": value}])
        kept.append(_kept(tmp_path))
        assert store.latest()[0].name == f"step_00000000{step}"
    assert kept == [["1+"], ["2+"], ["2", "3+"], ["2", "4+"], ["5+"]]


@pytest.mark.parametrize("lost", ["resume", "resume/inner"])
def test_a_trial_never_goes_on_from_weights_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    for step, value in ((1, 0.9), (2, 0.1)):
        store.commit(_save(step), [{"step": step, "acc": value}])
    assert caplog.text == ""
    (tmp_path / "t" / "step_000000002" / "weights").write_text("")
    assert store.latest() is None
    shutil.rmtree(tmp_path / "t" / "step_000000002")
    store.commit(_save(2), [{"step": 2, "acc": 0.1}])
    shutil.rmtree(tmp_path / "t" / "step_000000002" / lost)  # by hand, or by a crash at a URL
    assert store.latest() is None
    weights_alone = "the checkpoint step_000000001 is kept without its resume/: the trial begins anew"
    assert [record.getMessage() for record in caplog.records] == [
        f"the checkpoint step_000000002 is damaged, {weights_alone}",
        f"the checkpoint step_000000002 is kept without its resume/, {weights_alone}",
    ]
    store.commit(_save(1), [{"step": 1, "acc": 0.8}])  # anew: the later ones are of a past that is repeated
    assert _kept(tmp_path) == ["1+"] and store.latest()[1] == [{"step": 1, "acc": 0.8}]


def test_weights_that_are_damaged_are_called_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    store.commit(_save(1), [{"step": 1, "acc": 0.9}])
    folder = tmp_path / "t" / "step_000000001"
    shutil.rmtree(folder / "resume")
    (folder / "weights").write_text("")
    assert store.latest() is None
    assert caplog.record_tuples == [
        (checkpoints.__name__, logging.WARNING,
         "the checkpoint step_000000001 is damaged: the trial begins anew")
    ]  # fmt: skip


# Written where they are kept


def test_a_function_writes_where_the_checkpoint_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def save(folder: Path) -> None:
        _save(1)(folder)
        written.append((folder / "weights").stat().st_ino)

    monkeypatch.setattr(shutil, "copytree", None)
    path = CheckpointStore(tmp_path / "t", "acc", "max").commit(save, [{"step": 1, "acc": 0.5}])
    assert [(path / "weights").stat().st_ino] == written  # the same file


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_function_that_fails_leaves_the_last_checkpoint_and_no_half(
    tmp_path: Path, error: BaseException
) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    store.commit(_save(1), [{"step": 1, "acc": 0.5}])

    def fails(folder: Path) -> None:
        _save(2)(folder)
        raise error

    with pytest.raises(type(error)):
        store.commit(fails, [{"step": 2, "acc": 0.6}])
    assert _kept(tmp_path) == ["1+"] and store.latest()[0].name == "step_000000001"


def test_after_a_damaged_one_the_new_ones_count(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    _commit(store, tmp_path, 2, 0.9)
    _commit(store, tmp_path, 5, 0.1)
    (tmp_path / "t" / "step_000000005" / "weights").write_text("")
    assert store.latest()[0].name == "step_000000002"
    for step in (3, 4):
        _commit(store, tmp_path, step, 0.1)
        assert store.latest()[0].name == f"step_00000000{step}"


def test_a_trainers_own_files_may_be_called_as_they_like(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "report.json").write_text("mine")
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    store.commit(source, [{"step": 1, "acc": 0.5}])
    assert (store.latest()[0] / "report.json").read_text() == "mine"


def test_a_full_disk_leaves_the_last_checkpoint_and_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    _commit(store, tmp_path, 1, 0.5)

    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(OSError, match="No space left"):
        _commit(store, tmp_path, 2, 0.6)
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["step_000000001"]
    assert store.latest()[0].name == "step_000000001"


def test_a_report_is_encoded_once_however_many_checkpoints_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, source = [], tmp_path / "source"
    source.mkdir()
    monkeypatch.setattr(checkpoints, "encode", lambda report: encoded.append(report) or report)
    store, reports = CheckpointStore(tmp_path / "t", "acc", "max"), []
    for step in range(1, 51):
        reports.append({"step": step, "acc": step / 100})
        store.commit(source, reports)
    assert len(encoded) == 50
    assert store.latest()[1] == reports
    other = [{"step": 1, "acc": 0.5}, {"step": 60, "acc": 0.4}]  # not those of before, with one more
    store.commit(source, other)
    assert store.latest()[1] == other


def test_the_score_of_a_kept_checkpoint_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, read_report = [], checkpoints._read_report
    monkeypatch.setattr(checkpoints, "_read_report", lambda path: read.append(path) or read_report(path))
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    for step, value in enumerate([0.1, 0.9, 0.3, 0.2], start=1):
        _commit(store, tmp_path, step, value)
    assert read == []
    again = CheckpointStore(tmp_path / "t", "acc", "max")
    for step in (5, 6):
        _commit(again, tmp_path, step, 0.4)
    assert [path.name for path in read] == ["step_000000002", "step_000000004"]  # each once


@pytest.mark.parametrize("is_function", [False, True])
def test_every_file_is_synced_before_the_checkpoint_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_function: bool
) -> None:
    synced, source, sync = [], tmp_path / "source", checkpoints._sync
    (source / "inner").mkdir(parents=True)
    for number in range(100):
        (source / "inner" / str(number)).write_text("x")
    monkeypatch.setattr(checkpoints, "_sync", lambda path: synced.append(path) or sync(path))
    given = (lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True)) if is_function else source
    target = CheckpointStore(tmp_path / "t", "acc", "max").commit(given, [{"step": 1, "acc": 0.5}])
    *before, last = synced
    assert last == tmp_path / "t"
    (staging,) = {path for path in before if path.parent == tmp_path / "t"}
    assert {path.relative_to(staging) for path in before} == {
        path.relative_to(target) for path in (target, *target.rglob("*"))
    }
    assert len(before) == 103  # 100 files and their folder, the report, and the checkpoint itself
