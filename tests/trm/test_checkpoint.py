from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from trm.checkpoint import (
    FILE,
    RESUME_FILE,
    CheckpointError,
    keep_last,
    keep_weights,
    load_checkpoint,
    load_to_resume,
    restore_last,
    save_checkpoint,
)


def test_everything_comes_back(tmp_path: Path) -> None:
    state = {
        "step": 3,
        "config": "{}",
        "format": 2,
        "model": {"weight": torch.randn(3, 4), "half": torch.randn(2).bfloat16()},
    }
    resume = {
        "wall_s": 1.5,
        "carry": {"halted": torch.tensor([True, False]), "inputs": torch.ones(2, 2, dtype=torch.uint8)},
        "optimizers": {"lr": 0.1, "groups": [{"params": [0], "betas": (0.9, 0.95)}]},
    }
    folder = tmp_path / "new" / "folder"
    save_checkpoint(folder, state, resume)
    assert load_checkpoint(folder, "cpu").keys() == state.keys()
    loaded = load_to_resume(folder, "cpu")
    assert loaded.keys() == state.keys() | resume.keys()
    assert loaded["optimizers"] == resume["optimizers"]
    for name, tensor in (state["model"] | resume["carry"]).items():
        again = (loaded["model"] | loaded["carry"])[name]
        assert again.dtype == tensor.dtype and torch.equal(again, tensor)


@pytest.mark.parametrize("name", [FILE, RESUME_FILE])
def test_what_cannot_be_resumed_from_says_so(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, {"step": 1, "format": 2}, {"wall_s": 1.5})
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=f"{tmp_path / name}: is not a readable checkpoint"):
        load_to_resume(tmp_path, "cpu")
    (tmp_path / name).unlink()
    message = "no such file" if name == FILE else "holds the weights alone.* give the run's last checkpoint"
    with pytest.raises(CheckpointError, match=message):
        load_to_resume(tmp_path, "cpu")


def test_a_kept_checkpoint_replaces_the_one_before_and_leaves_nothing_beside(tmp_path: Path) -> None:
    last = tmp_path / "run" / "last"
    save_checkpoint(tmp_path / "given", {"step": 1}, {"wall_s": 1.5})
    keep_last(tmp_path / "given", last)
    assert load_checkpoint(last, "cpu") == load_checkpoint(tmp_path / "given", "cpu") == {"step": 1}
    keep_last(lambda folder: save_checkpoint(folder, {"step": 2}), last)
    assert load_checkpoint(last, "cpu") == {"step": 2}
    assert [path.name for path in (tmp_path / "run").rglob("*")] == ["last", FILE]


def test_a_write_that_dies_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    keep_last(lambda folder: save_checkpoint(folder, {"step": 1}), tmp_path / "last")

    def dies(folder: Path) -> None:
        (folder / FILE).write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_last(dies, tmp_path / "last")
    assert load_checkpoint(tmp_path / "last", "cpu") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_after_a_crash_at_any_rename_a_whole_checkpoint_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    last = tmp_path / "last"
    keep_last(lambda folder: save_checkpoint(folder, {"step": 1}), last)
    done, rename = [], Path.rename

    def crashes(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", crashes)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    if renames < 2:
        with pytest.raises(KeyboardInterrupt):
            keep_last(lambda folder: save_checkpoint(folder, {"step": 2}), last)
    else:
        keep_last(lambda folder: save_checkpoint(folder, {"step": 2}), last)
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 2  # as the crash left it
    restore_last(last)
    assert load_checkpoint(last, "cpu") == {"step": 2 if renames == 2 else 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("has_links", [True, False])
def test_kept_weights_take_no_room_where_files_can_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refuses(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuses)
    for step in (1, 2):
        keep_last(lambda folder, step=step: save_checkpoint(folder, {"step": step}, {}), tmp_path / "last")
        keep_weights(tmp_path / "last", tmp_path / "best")
        assert load_checkpoint(tmp_path / "best", "cpu") == {"step": step}
        assert (tmp_path / "best" / FILE).samefile(tmp_path / "last" / FILE) == has_links
    assert [path.name for path in (tmp_path / "best").iterdir()] == [FILE]
    keep_last(lambda folder: save_checkpoint(folder, {"step": 3}), tmp_path / "last")
    assert load_checkpoint(tmp_path / "best", "cpu") == {"step": 2}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path, "cpu")
    torch.save({"step": Evil()}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match="is not a readable checkpoint") as error:
        load_checkpoint(tmp_path, "cpu")
    assert "weights_only" not in str(error.value)  # torch advises to run the code
    torch.save({"format": "new"}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match="its format is 'new', which must be a whole number"):
        load_checkpoint(tmp_path, "cpu")
    save_checkpoint(tmp_path, {"step": 1})
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="restore it from a copy, or give another"):
        load_checkpoint(tmp_path, "cpu")
