from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from trm.checkpoint import FILE, CheckpointError, copy_checkpoint, load_checkpoint, save_checkpoint


def test_everything_comes_back(tmp_path: Path) -> None:
    state = {
        "step": 3,
        "wall_s": 1.5,
        "config": "{}",
        "model": {"weight": torch.randn(3, 4), "half": torch.randn(2).bfloat16()},
        "carry": {"halted": torch.tensor([True, False]), "inputs": torch.ones(2, 2, dtype=torch.uint8)},
        "optimizers": {"lr": 0.1, "groups": [{"params": [0], "betas": (0.9, 0.95)}]},
    }
    save_checkpoint(tmp_path / "new" / "folder", state)
    loaded = load_checkpoint(tmp_path / "new" / "folder", "cpu")
    assert loaded.keys() == state.keys()
    assert loaded["optimizers"] == state["optimizers"]
    for group in ("model", "carry"):
        for name, tensor in state[group].items():
            assert loaded[group][name].dtype == tensor.dtype
            assert torch.equal(loaded[group][name], tensor)


def test_a_write_that_dies_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, {"step": 1})

    def dies(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, {"step": 2})
    assert load_checkpoint(tmp_path, "cpu") == {"step": 1}


def test_copy_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path / "source", {"step": step})
        copy_checkpoint(tmp_path / "source", tmp_path / "target")
        assert load_checkpoint(tmp_path / "target", "cpu") == {"step": step}
    assert [path.name for path in (tmp_path / "target").iterdir()] == [FILE]


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
