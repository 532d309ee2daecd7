"""A sweep of known curves, disturbed and not, and what must be equal in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from mlflow.tracking import MlflowClient

from sweeps.journal import read_journal
from tests.conftest import ROOT
from tests.sweeps.spaces import TUNE, write_space

LIMIT_S = 150
BASE = {"lr": 0.1, "max_samples": 100, "seconds_a_step": 0.1}
SEARCH = {"algorithm": "sobol", "draws_per_arm": 2, "seeds": [0], "keep": 1}


class Sweep:
    """Launches of one sweep in `folder`, whose draws are known beforehand and of which nothing is stopped."""

    def __init__(self, folder: Path, storage: Path | None = None, uri: str = "", **changes: Any) -> None:
        self.folder = folder
        self.uri = uri or f"sqlite:///{folder}/mlflow.db"
        self.results = (storage or folder / "results") / "toy"
        space = {"base": BASE, "ablate": {"model.kind": ["a", "b"]}, "tune": TUNE, "search": SEARCH}
        self.space = write_space(folder, **space | changes)
        self.arguments = ["--storage", self.results.parent, "--tracking-uri", self.uri]

    def start(self, *arguments: object, before: str = "") -> subprocess.Popen[str]:
        """`before` is code that runs in the driver before the launch."""
        command = [str(self.space), *map(str, [*self.arguments, *arguments])]
        code = f"import sys, run_sweep; {before}\nsys.exit(run_sweep.main({command!r}))"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
        return self.finish(self.start(*arguments, before=before))

    @staticmethod
    def finish(process: subprocess.Popen[str], limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
        out, err = process.communicate(timeout=limit_s)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in read_journal(self.results / "journal.jsonl") if event["event"] == kind]

    def wait_for_reports(self, number: int, process: subprocess.Popen[str]) -> None:
        wait_until(lambda: len(self.events("report")) >= number or process.poll() is not None)

    def history(self) -> pd.DataFrame:
        """What must be the same whatever happened: every report once, with the same values."""
        history = pd.read_parquet(self.results / "history.parquet")
        assert not history.duplicated(["trial_id", "step"]).any()
        columns = ["trial_id", "step", "samples", "accuracy", "total"]
        return history[columns].sort_values(["trial_id", "step"]).reset_index(drop=True)

    def statuses(self) -> dict[str, str]:
        trials = pd.read_parquet(self.results / "trials.parquet")
        return dict(zip(trials.trial_id, trials.status, strict=True))

    def assert_ends_as(self, whole: Sweep) -> None:
        """Bit for bit where the undisturbed one ended: trials, outcomes, reports, chosen draws, runs."""
        assert self.statuses() == whole.statuses()
        pd.testing.assert_frame_equal(self.history(), whole.history(), check_exact=True)
        chosen = [[(e["arm"], e["draws"]) for e in each.events("select")] for each in (self, whole)]
        assert sorted(chosen[0]) == sorted(chosen[1])
        self.assert_mirrored()

    def assert_mirrored(self) -> None:
        """One run a trial and the parent, none RUNNING, every report's metrics once."""
        client = MlflowClient(tracking_uri=self.uri)
        runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
        trials = {run.data.tags["trial_id"]: run for run in runs if run.data.tags["role"] == "trial"}
        assert len(runs) == len(trials) + 1 and set(trials) == set(self.statuses())
        assert {run.info.status for run in runs} == {"FINISHED"}
        history = self.history()
        for trial_id, run in trials.items():
            logged = client.get_metric_history(run.info.run_id, "total")
            mine = history[history.trial_id == trial_id]
            assert [(point.step, point.value) for point in logged] == list(
                zip(mine.step, mine.total, strict=True)
            )


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes in which trials run."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(word.startswith("ray::ResourceTrainable") for word in child.cmdline()[:1]):
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
