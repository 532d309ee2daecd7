"""A sweep of known curves, disturbed and not, and what must be equal in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow.tracking import MlflowClient

from sweeps.observe.mlflow_runs import RUN_STATUS
from sweeps.record.journal import read_journal
from tests.conftest import BUCKET, ROOT
from tests.sweeps.spaces import TUNE, write_space

LIMIT_S = 150
BASE = {"lr": 0.1, "max_samples": 100, "seconds_a_step": 0.1}
SEARCH = {"algorithm": "sobol", "draws_per_arm": 2, "seeds": [0], "keep": 1}
MARK = "SWEEP_UNDER_TEST"  # in the environment of every process of a sweep, orphans too

Driver = subprocess.Popen[str]
Done = subprocess.CompletedProcess[str]


class Sweep:
    """Launches of one sweep in `folder`, whose draws are known beforehand and of which nothing is stopped.

    `environment` is added to the driver's; `changes` are of the search space.
    """

    def __init__(
        self,
        folder: Path,
        storage: Path | None = None,
        uri: str = "",
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> None:
        self.folder = folder
        self.uri = uri or f"sqlite:///{folder}/mlflow.db"
        self.results = (storage or folder / "results") / "toy"
        space = {"base": BASE, "ablate": {"model.kind": ["a", "b"]}, "tune": TUNE, "search": SEARCH}
        self.space = write_space(folder, **space | changes)
        self.arguments: list[object] = ["--storage", self.results.parent, "--tracking-uri", self.uri]
        scratch = folder / "tmp"  # what killed processes leave goes with the test's folder, Ray's aside:
        scratch.mkdir(exist_ok=True)  # the names of its sockets must be short
        self.environment = {
            **os.environ, "PYTHONPATH": f"{ROOT}:{BUCKET}", "OMP_NUM_THREADS": "1", MARK: str(folder),
            "TMPDIR": str(scratch), "RAY_TMPDIR": "/tmp", **(environment or {}),
        }  # fmt: skip

    # Launches

    def start(self, *arguments: object, before: str = "", **popen: Any) -> Driver:
        """`before` is code that runs in the driver before the launch; `popen` is for its process."""
        command = [str(self.space), *map(str, [*self.arguments, *arguments])]
        code = f"import sys, run_sweep; {before}\nsys.exit(run_sweep.main({command!r}))"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **pipes | popen)

    def run(self, *arguments: object, before: str = "") -> Done:
        return self.finish(self.start(*arguments, before=before))

    def completed(self) -> Sweep:
        """The same, after an undisturbed launch."""
        done = self.run()
        assert done.returncode == 0, done.stderr
        return self

    @staticmethod
    def finish(process: Driver, limit_s: float = LIMIT_S) -> Done:
        out, err = process.communicate(timeout=limit_s)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def started(self, after: int, *arguments: object) -> Driver:
        """A launch of which so many reports have arrived."""
        process = self.start(*arguments)
        self.wait_for_reports(after, process)
        return process

    def killed(self, after: int) -> None:
        """A launch, and SIGKILL when so many reports have arrived."""
        process = self.started(after)
        kill(process)
        assert process.returncode == -signal.SIGKILL, "it ended by itself"

    def resumes_as(self, whole: Sweep) -> None:
        """`--resume` ends the sweep as the undisturbed one ended."""
        resumed = self.run("--resume")
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        self.assert_ends_as(whole)

    # What there is

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in read_journal(self.results / "journal.jsonl") if event["event"] == kind]

    def wait_for_reports(self, number: int, process: Driver) -> None:
        wait_until(lambda: len(self.events("report")) >= number or process.poll() is not None)

    def family(self) -> list[psutil.Process]:
        """Every living process that a launch of this sweep started, whoever its parent is by now."""
        return [each for each in psutil.process_iter() if self._is_mine(each)]

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            mine = process.environ().get(MARK) == str(self.folder)
            return mine and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False

    def history(self, without: str = " ") -> pd.DataFrame:
        """What must be the same whatever happened: every report once, with the same values. Trials with
        `without` in their names are left out."""
        history = pd.read_parquet(self.results / "history.parquet")
        assert not history.duplicated(["trial_id", "step"]).any()
        history = history[~history.trial_id.str.contains(without, regex=False)]
        columns = ["trial_id", "step", "samples", "accuracy", "total"]
        return history[columns].sort_values(["trial_id", "step"]).reset_index(drop=True)

    def statuses(self, without: str = " ") -> dict[str, str]:
        trials = pd.read_parquet(self.results / "trials.parquet")
        found = dict(zip(trials.trial_id, trials.status, strict=True))
        return {trial_id: status for trial_id, status in found.items() if without not in trial_id}

    # What must hold

    def assert_ends_as(self, whole: Sweep, without: str = " ") -> None:
        """Bit for bit where the undisturbed one ended: trials, outcomes, reports, chosen draws, runs."""
        assert self.statuses(without) == whole.statuses(without)
        pd.testing.assert_frame_equal(self.history(without), whole.history(without), check_exact=True)
        chosen = [[(e["arm"], e["draws"]) for e in each.events("select")] for each in (self, whole)]
        assert sorted(chosen[0]) == sorted(chosen[1])
        self.assert_mirrored()

    def assert_mirrored(self) -> None:
        """One run a trial under one parent, each with its trial's status, and every report's metrics once."""
        client = MlflowClient(tracking_uri=self.uri)
        runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
        trials = {run.data.tags["trial_id"]: run for run in runs if run.data.tags["role"] == "trial"}
        assert len(runs) == len(trials) + 1
        found = {trial_id: run.info.status for trial_id, run in trials.items()}
        assert found == {trial_id: RUN_STATUS[status] for trial_id, status in self.statuses().items()}
        [parent] = [run.info for run in runs if run.data.tags["role"] == "sweep"]
        assert parent.status == "FINISHED"
        assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.run_id}
        history = self.history()
        for trial_id, run in trials.items():
            logged = client.get_metric_history(run.info.run_id, "total")
            mine = history[history.trial_id == trial_id]
            np.testing.assert_array_equal([point.step for point in logged], mine.step)
            np.testing.assert_array_equal([point.value for point in logged], mine.total)

    def assert_nothing_is_left(self) -> None:
        wait_until(lambda: not self.family())


def wait_until(happened: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def workers(process: Driver) -> list[psutil.Process]:
    """The processes in which trials run."""
    found = []
    for child in _children(process):
        try:
            if any(word.startswith("ray::TrialActor") for word in child.cmdline()[:1]):
                found.append(child)
        except psutil.Error:
            continue
    return found


def _children(process: Driver) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def kill(process: Driver) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at `folder`."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
