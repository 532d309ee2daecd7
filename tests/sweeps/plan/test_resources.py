from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.plan import resources
from sweeps.plan.resources import ClusterResources, Node, cpu_quota, local_resources
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("cpus", "gpus", "cpu", "gpu", "fit"),
    [
        (8, 2, 1, 0.4, 4),  # a share lies on one GPU: two on each
        (8, 2, 1, 0.6, 2),
        (16, 4, 1, 0.3, 12),
        (16, 1, 1, 0.1, 10),
        (3, 4, 1, 0.5, 3),  # too few cores
        (8, 2, 1, 2, 1),
        (8, 3, 1, 2, 1),
        (2, 0, 1, 0, 2),
        (2, 0, 0.5, 0, 4),
        (2, 0, 1, 1, 0),
        (1, 0, 2, 0, 0),
    ],
)
def test_how_many_trials_fit(cpus: float, gpus: float, cpu: float, gpu: float, fit: int) -> None:
    assert Node(cpus, gpus).concurrency(cpu, gpu) == fit


def test_a_trial_runs_on_one_node() -> None:
    two = ClusterResources((Node(4, 1, "a"), Node(6, 0, "b")))
    assert (two.cpu, two.gpu) == (10, 1)
    assert two.concurrency(3, 0) == 3  # 1 and 2: what is left of each is too small
    assert two.concurrency(8, 0) == 0
    assert two.without({"a"}).concurrency(3, 0) == 2


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000"}, math.inf),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "800000 100000", "job/cpu.max": "max 100000", "job/step/cpu.max": "200000 100000"}, 2),
        ({"job/cpu.max": "400000 100000"}, 4),
        ({"other/cpu.max": "100000 100000"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
    ],
)
def test_a_containers_quota_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: float
) -> None:
    own = tmp_path / "own"
    own.write_text("12:cpu:/job\n0::/job/step\n")
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert cpu_quota(tmp_path / "cgroup", own) == cores
    monkeypatch.setattr(resources, "cpu_quota", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert local_resources(count_gpus=False).cpu == int(min(64, cores))


def test_macos_has_neither_affinity_nor_fdatasync(tmp_path: Path) -> None:
    code = """
import os
del os.sched_getaffinity, os.fdatasync
from pathlib import Path
from sweeps.plan.resources import local_resources
from sweeps.record.journal import Journal, read_journal
path = Path("journal.jsonl")
Journal(path).append("finish", status="completed")
assert next(read_journal(path))["status"] == "completed" and local_resources(False).cpu >= 1
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
