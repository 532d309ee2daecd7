"""Signals of a launch: which are caught, and how often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sweeps.process import Signals
from tests.conftest import ROOT

CATCHES = """
import signal, sys, time
from sweeps.process import Signals
with Signals() as signals:
    print("ready", flush=True)
    while not signals.received():
        time.sleep(0.01)
    signals.install()
    time.sleep(float(sys.argv[1]))
sys.exit(signals.exit_status)
"""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {kind: signal.getsignal(kind) for kind in Signals.KINDS}
    yield
    assert {kind: signal.getsignal(kind) for kind in Signals.KINDS} == before


def _start(seconds: float, *before: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*before, sys.executable, "-c", CATCHES, str(seconds)],
        env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_what_was_ignored_stays_ignored() -> None:
    process = _start(0, "nohup")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM


def test_two_signals_at_once_are_one() -> None:
    """As a closed terminal sends them, although the handlers were installed again in between."""
    process = _start(0.5)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGHUP


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_also_after_the_handlers_were_installed_again(second: int) -> None:
    process = _start(60)
    process.terminate()
    time.sleep(0.3)
    process.send_signal(second)
    process.communicate(timeout=10)
    assert process.returncode == -second


def test_a_signal_in_the_middle_of_a_write_leaves_the_errors_that_follow(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writing:
        def write(self, text: str) -> None:
            raise RuntimeError("reentrant call inside")

        def flush(self) -> None: ...

    with Signals() as signals:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Writing())
            signal.raise_signal(signal.SIGTERM)
        os.write(2, b"what follows\n")
    assert signals.received()
    error = capfd.readouterr().err
    assert "Stopping; recorded" in error and "what follows" in error


def test_a_message_that_nobody_can_read_changes_nothing() -> None:
    process = _start(0)
    assert process.stderr is not None
    process.stderr.close()
    process.terminate()
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
