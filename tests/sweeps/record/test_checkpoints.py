from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.record.checkpoints import CheckpointStore


def _commit(store: CheckpointStore, folder: Path, step: int, value: float) -> None:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "weights").write_text(str(step))
    store.commit(source, [{"step": step, "acc": value}])


def test_the_last_and_the_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    for step, value in enumerate([0.1, 0.9, 0.3, float("nan"), 0.2], start=1):
        _commit(store, tmp_path, step, value)
    assert [path.name for path in sorted((tmp_path / "t").iterdir())] == ["step_000000002", "step_000000005"]
    path, (metrics,) = store.latest()
    assert (path / "weights").read_text() == "5"
    assert metrics == {"step": 5, "acc": 0.2}


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


def test_a_half_copied_checkpoint_is_never_seen(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "t", "acc", "max")
    assert store.latest() is None
    (tmp_path / "t" / ".step_000000003.77").mkdir(parents=True)
    assert store.latest() is None


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
