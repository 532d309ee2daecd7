"""Signals that the launch alone hears."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from sweeps.execute.held_signals import signals_held
from sweeps.process import Signals
from tests.conftest import ROOT


@pytest.mark.parametrize("kind", [signal.SIGHUP, signal.SIGTERM])
def test_signals_are_held_back_and_delivered_later(kind: signal.Signals) -> None:
    with Signals() as signals:
        with signals_held():
            signal.signal(kind, signal.SIG_DFL)  # as ray.init installs a handler of its own
            child = subprocess.Popen(["sleep", "60"])
            signal.raise_signal(kind)
            assert not signals.received()
        assert signals.received()
    child.send_signal(kind)
    time.sleep(0.2)
    assert child.poll() is None
    child.kill()
    child.wait()


WORKER = """
import multiprocessing, os, signal, subprocess, time
from sweeps.execute.held_signals import pass_over_held_signals
pass_over_held_signals()
for kind in (signal.SIGHUP, signal.SIGTERM):
    os.kill(os.getpid(), kind)
    child = subprocess.Popen(["sleep", "60"])
    child.send_signal(kind)
    assert child.wait(timeout=10) == -kind
    fork = multiprocessing.get_context("fork")
    has_begun = fork.Event()
    forked = fork.Process(target=lambda: (has_begun.set(), time.sleep(60)))
    forked.start()
    has_begun.wait(30)
    os.kill(forked.pid, kind)
    forked.join(10)
    assert forked.exitcode == -kind
print("alive")
"""


def test_a_worker_passes_them_over_and_its_children_hear_them() -> None:
    with signals_held():
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER], env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
    out, _ = worker.communicate(timeout=60)
    assert (out, worker.returncode) == ("alive\n", 0)
