"""The real command, told to end and killed: it goes on where it was, on the data that it began with."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow.tracking import MlflowClient

import sweeps
from sweeps.__main__ import main
from tests.sweeps.launches import LIMIT_S, run, run_here, start
from tests.sweeps.spaces import write_space

TRAINER = """
from pathlib import Path
from tests.sweeps.toy_trainer import ToyConfig, describe, train
def check(config): return Path(__file__).with_name("rows.txt").read_text()
"""


@pytest.mark.timeout(400)
def test_a_sweep_that_was_ended_or_killed_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sweep, which is told to end in each way, one launch after the other."""
    rows = tmp_path / "rows.txt"
    rows.write_text("1")
    (tmp_path / "reads_rows.py").write_text(TRAINER)
    monkeypatch.syspath_prepend(tmp_path)
    base = {"lr": 0.1, "max_samples": 100, "seconds_a_step": 0.2}
    space = write_space(tmp_path, trainer="reads_rows:train", base=base, ablate={"model.kind": ["a", "b"]})

    process = start(tmp_path, space)
    _wait_for_reports(tmp_path, 6, process)
    family = psutil.Process(process.pid).children(recursive=True)
    listening = _listening({child.pid for child in family})
    assert listening, "Ray's processes were not found"
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    _end(process, signal.SIGINT, tmp_path)
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]

    unfinished = run_here(tmp_path, space)
    assert unfinished.returncode == 2 and "--resume" in unfinished.stderr
    rows.write_text("2")
    refused = run_here(tmp_path, space, "--resume")
    assert refused.returncode == 2 and "other data (hash 1 before, 2 now)" in refused.stderr
    rows.write_text("1")

    for kind, reports in ((signal.SIGTERM, 14), (signal.SIGKILL, 22)):
        process = start(tmp_path, space, "--resume", process_group=0)
        _wait_for_reports(tmp_path, reports, process)
        _end(process, kind, tmp_path)
        assert run_here(tmp_path, space).returncode == 2

    resumed = run(tmp_path, space, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    history = pd.read_parquet(tmp_path / "results" / "toy" / "history.parquet")
    assert history.groupby("trial_id").size().eq(10).all() and history.trial_id.nunique() == 4
    totals = history.groupby("trial_id").accuracy.sum()
    last = history[history.step == 10].set_index("trial_id").total
    assert (last - totals).abs().max() < 1e-12  # as though nothing had happened, checkpoints included
    _assert_one_run_a_trial(tmp_path)


@pytest.mark.timeout(400)
def test_a_launch_that_stop_asks_to_end_goes_on_from_the_sweeps_own_yaml(tmp_path: Path) -> None:
    base = {"lr": 0.1, "max_samples": 100, "seconds_a_step": 0.5}
    process = start(tmp_path, write_space(tmp_path, base=base, ablate={"model.kind": ["a", "b"]}))
    _wait_for_reports(tmp_path, 3, process)
    storage = ["--storage", str(tmp_path / "results")]
    assert main(["status", "toy", *storage]) == 0
    assert main(["stop", "toy", *storage]) == 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Interrupted. Continue with" in out
    assert sweeps.status("toy", storage[1])["state"] == "interrupted"
    resumed = run(tmp_path, tmp_path / "results" / "toy" / "sweep.yaml", "--resume")
    assert resumed.returncode == 0, resumed.stderr


def _wait_for_reports(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    journal = folder / "results" / "toy" / "journal.jsonl"
    deadline = time.monotonic() + LIMIT_S
    while not (journal.exists() and journal.read_text().count('"report"') >= number):
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline, "no reports arrive"
        time.sleep(0.05)


def _end(process: subprocess.Popen[str], kind: signal.Signals, folder: Path) -> None:
    """End the launch. It says so, and leaves tables, where it can."""
    if kind == signal.SIGTERM:  # to Ray's processes too, as `timeout` does and Slurm at a time limit
        os.killpg(process.pid, kind)
    else:
        process.send_signal(kind)
    out, err = process.communicate(timeout=60)
    assert kind == signal.SIGKILL or not _alive_in_group(process.pid)
    assert process.returncode == (-9 if kind == signal.SIGKILL else 128 + kind), err
    if kind != signal.SIGKILL:
        assert "--resume" in out
        left = set(pd.read_parquet(folder / "results" / "toy" / "trials.parquet").status)
        assert left <= {"completed", "interrupted", "not_started"} and "interrupted" in left


def _alive_in_group(group: int) -> list[psutil.Process]:
    """The processes of a process group that have not ended, after two seconds at the most."""
    found = []
    for each in psutil.process_iter():
        with suppress(OSError):  # it has ended by now
            found += [each] if os.getpgid(each.pid) == group else []
    _, alive = psutil.wait_procs(found, timeout=2)
    return [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def _listening(pids: set[int]) -> set[str]:
    """The addresses at which these processes listen."""
    connections = psutil.net_connections("tcp")
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN and each.pid in pids}


def _assert_one_run_a_trial(folder: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert len(found) == 5
    assert {each.info.status for each in found} == {"FINISHED"}
    for each in found:
        if each.data.tags["role"] == "trial":
            points = client.get_metric_history(each.info.run_id, "accuracy")
            assert [point.step for point in points] == list(range(1, 11))
