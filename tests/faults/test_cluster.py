"""A cluster of several nodes, as far as one machine can have one: `--address`, token authentication, and a
node that dies with the trials on it."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.harness import Sweep, kill, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep whose environment has a token, as that of every process of the cluster must."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return Sweep(tmp_path, environment=token)


@contextmanager
def _cluster(sweep: Sweep, nodes: int) -> Iterator[Callable[[], None]]:
    """Adds its address to the sweep's arguments. Yields what kills a node."""
    host = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.cluster", str(nodes)],
        cwd=ROOT, env=sweep.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert host.stdin is not None and host.stdout is not None

    def kill_a_node() -> None:
        print("kill", file=host.stdin, flush=True)
        assert host.stdout.readline() == "killed\n"

    try:
        sweep.arguments += ["--address", host.stdout.readline().strip()]
        yield kill_a_node
    finally:
        host.stdin.close()
        host.wait(timeout=60)
        sweep.assert_nothing_is_left()


def _running(sweep: Sweep) -> set[str]:
    """Trials that have begun and not ended."""
    return {e["trial_id"] for e in sweep.events("start")} - {e["trial_id"] for e in sweep.events("end")}


def test_a_node_dies(whole: Sweep, sweep: Sweep) -> None:
    with _cluster(sweep, nodes=2) as kill_a_node:
        process = sweep.started(15)
        wait_until(lambda: len(_running(sweep)) == 2)  # one a node
        kill_a_node()
        done = sweep.finish(process)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(sweep.events("retry")) == 1
    sweep.assert_ends_as(whole)


def test_the_driver_dies_and_a_node_before_it_comes_back(whole: Sweep, sweep: Sweep) -> None:
    """The cluster lives on without the driver; its next one finds fewer nodes."""
    with _cluster(sweep, nodes=2) as kill_a_node:
        process = sweep.started(15)
        kill(process)
        kill_a_node()
        sweep.resumes_as(whole)


def test_all_nodes_die_and_others_come(whole: Sweep, sweep: Sweep) -> None:
    """Trials wait for a place to run; an interrupt ends the wait, and another cluster goes on."""
    arguments = sweep.arguments.copy()
    with _cluster(sweep, nodes=1) as kill_a_node:
        process = sweep.started(5)
        kill_a_node()
        wait_until(lambda: bool(sweep.events("retry")))
        process.terminate()
        assert sweep.finish(process).returncode == 128 + 15
    sweep.arguments = arguments
    with _cluster(sweep, nodes=2):
        sweep.resumes_as(whole)


def test_a_driver_without_the_token_is_told_so(sweep: Sweep) -> None:
    with _cluster(sweep, nodes=1):
        sweep.environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        refused = sweep.run()
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "give its token" in refused.stderr.splitlines()[-1] and "Traceback" not in refused.stderr
    assert not sweep.results.exists()
