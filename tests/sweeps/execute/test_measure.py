"""Measuring a trainer that does not know of it."""

from __future__ import annotations

from pathlib import Path

from sweeps.execute.measure import _TimedTrial


def test_a_checkpoint_is_written_and_thrown_away(tmp_path: Path) -> None:
    trial, written = _TimedTrial("cpu"), []

    def save(folder: Path) -> None:
        (folder / "weights").write_text("x")
        written.append(folder)

    trial.report({"samples": 1}, save)
    (folder,) = written
    assert not folder.exists() and trial.seconds_per_sample is not None
    trial = _TimedTrial("cpu")
    trial.report({"samples": 1}, tmp_path)
    assert tmp_path.exists()
