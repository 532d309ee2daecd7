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

from sweeps.decide.retries import NODE_ROW
from tests.conftest import ROOT
from tests.faults.harness import Sweep, kill, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep whose environment has a token, as that of every process of the cluster must."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return Sweep(tmp_path, environment=token)


@contextmanager
def _cluster(sweep: Sweep, nodes: int) -> Iterator[Callable[[str], None]]:
    """Adds its address to the sweep's arguments. Yields what gives it an order, as `kill` or `add`."""
    host = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.cluster", str(nodes)],
        cwd=ROOT, env=sweep.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert host.stdin is not None and host.stdout is not None

    def order(line: str) -> None:
        print(line, file=host.stdin, flush=True)
        assert host.stdout.readline() == "done\n"

    try:
        sweep.arguments += ["--address", host.stdout.readline().strip()]
        yield order
    finally:
        host.stdin.close()
        host.wait(timeout=60)
        sweep.assert_nothing_is_left()


def _running(sweep: Sweep) -> set[str]:
    """Trials that have begun and not ended."""
    return {e["trial_id"] for e in sweep.events("start")} - {e["trial_id"] for e in sweep.events("end")}


def test_a_node_dies(whole: Sweep, sweep: Sweep) -> None:
    with _cluster(sweep, nodes=2) as order:
        process = sweep.started(15)
        wait_until(lambda: len(_running(sweep)) == 2)  # one a node
        order("kill")
        done = sweep.finish(process)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(sweep.events("retry")) == 1
    sweep.assert_ends_as(whole)


def test_the_driver_dies_and_a_node_before_it_comes_back(whole: Sweep, sweep: Sweep) -> None:
    """The cluster lives on without the driver; its next one finds fewer nodes."""
    with _cluster(sweep, nodes=2) as order:
        process = sweep.started(15)
        kill(process)
        order("kill")
        sweep.resumes_as(whole)


def test_all_nodes_die_and_others_come(whole: Sweep, sweep: Sweep) -> None:
    """Trials wait for a place to run; an interrupt ends the wait, and another cluster goes on."""
    arguments = sweep.arguments.copy()
    with _cluster(sweep, nodes=1) as order:
        process = sweep.started(5)
        order("kill")
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


def _train_with(sweep: Sweep, trainer: str) -> None:
    sweep.space.write_text(sweep.space.read_text().replace("toy_trainer:train", f"{trainer}:train"))


def test_a_sick_node_gets_no_more_trials(sweep: Sweep) -> None:
    """Every process of a trial dies there at once. The first trials of a sweep start on every free node."""
    _train_with(sweep, "sick_trainer")
    with _cluster(sweep, nodes=1) as order:
        order("add dies")
        done = sweep.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(sweep.statuses().values()) == {"completed"}
    lost = sweep.events("retry")
    [sick] = {event["node"] for event in lost}
    assert {event["cause"] for event in lost} == {"lost"} and len(lost) == NODE_ROW
    [warning] = sweep.events("warning")
    assert sick[:8] in warning["text"] and "no more trials" in warning["text"]
    starts = {event["trial_id"]: event["node"] for event in sweep.events("start")}
    assert sick not in starts.values()  # where each trial started last


def _slow_down(sweep: Sweep, seconds_a_step: float) -> None:
    """So that there are still trials to run when a node that joins has been inspected."""
    was, now = "seconds_a_step: 0.1", f"seconds_a_step: {seconds_a_step}"
    sweep.space.write_text(sweep.space.read_text().replace(was, now))


def test_a_node_that_joins_is_used(sweep: Sweep) -> None:
    _slow_down(sweep, 1.5)
    with _cluster(sweep, nodes=1) as order:
        process = sweep.started(3)
        order("add")
        done = sweep.finish(process)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len({event["node"] for event in sweep.events("start")}) == 2


def test_a_trial_that_fits_on_no_single_node_is_refused(sweep: Sweep) -> None:
    sweep.space.write_text(sweep.space.read_text().replace("cpu: 1", "cpu: 2"))
    with _cluster(sweep, nodes=2):
        refused = sweep.run()
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "resources.cpu is 2, but the largest node, " in refused.stderr
    assert not sweep.results.exists()


def test_a_node_that_cannot_run_the_sweep_gets_no_trial(sweep: Sweep) -> None:
    _train_with(sweep, "sick_trainer")
    with _cluster(sweep, nodes=0) as order:
        order("add broken")
        refused = sweep.run()
        assert refused.returncode == 2 and not sweep.results.exists()
        assert "no node of the cluster can run trials" in refused.stderr
        order("add")
        done = sweep.run()
    assert done.returncode == 0, done.stdout + done.stderr
    [warning] = sweep.events("warning")
    assert "a library is missing here" in warning["text"] and not sweep.events("retry")
    assert len({event["node"] for event in sweep.events("start")}) == 1


def test_a_node_whose_data_are_missing_or_others_gets_no_trial(sweep: Sweep) -> None:
    _train_with(sweep, "sick_trainer")
    with _cluster(sweep, nodes=1) as order:
        order("add no-data")
        order("add other-data")
        done = sweep.run()
    assert done.returncode == 0, done.stdout + done.stderr
    told = sorted(event["text"].partition(": ")[2] for event in sweep.events("warning"))
    assert len(told) == 2 and not sweep.events("retry")
    assert told[0].startswith("FileNotFoundError: /data/train.csv is not there; mend the node")
    assert told[1].startswith("its data are not those of the launching machine")
    assert len({event["node"] for event in sweep.events("start")}) == 1


def test_a_sick_node_that_joins_gets_no_trial(sweep: Sweep) -> None:
    """Ray sees its free core at once, and the launch only when it reads the nodes again."""
    _train_with(sweep, "sick_trainer")
    _slow_down(sweep, 0.5)
    with _cluster(sweep, nodes=1) as order:
        process = sweep.started(3)
        order("add broken")
        done = sweep.finish(process)
    assert done.returncode == 0, done.stdout + done.stderr
    [warning] = sweep.events("warning")
    assert "a library is missing here" in warning["text"] and not sweep.events("retry")
    assert len({event["node"] for event in sweep.events("start")}) == 1
