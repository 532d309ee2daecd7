"""Parts of a launch that break: its writer to MLflow is ended, and the launch gets to its own end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps import running
from sweeps.execute import cluster
from sweeps.launch import launch
from sweeps.observe.summary import SOME_FAILED
from sweeps.options import LaunchOptions
from tests.sweeps.spaces import write_space


class Writer:
    """In place of the process that writes to MLflow."""

    link = ""
    closed = 0

    def __init__(self, *arguments: object) -> None:
        Writer.closed = 0

    def drain(self) -> str:
        raise OSError("no journal")

    def attach(self) -> str:
        return ""

    def close(self) -> None:
        Writer.closed += 1


def breaks(*arguments: Any) -> None:
    raise OSError("it broke")


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaunchOptions:
    monkeypatch.setattr(running, "MlflowProcess", Writer)
    return LaunchOptions(write_space(tmp_path), storage=str(tmp_path / "results"))


def test_an_error_before_the_first_trial_ends_the_writer(
    options: LaunchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "Tracker", breaks)
    with pytest.raises(OSError, match="it broke"):
        launch(options)
    assert Writer.closed


def test_an_error_after_the_last_trial_is_told_at_the_end(
    options: LaunchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.Run, "_run_until_end", lambda *arguments: "completed")
    monkeypatch.setattr(cluster, "disconnect", breaks)
    outcome = launch(options)
    assert outcome.status == SOME_FAILED
    assert any("The end of Ray stopped with an error (OSError: it broke)" in note for note in outcome.notes)
    assert any("The wait for MLflow stopped with an error" in note for note in outcome.notes)
    assert Writer.closed
