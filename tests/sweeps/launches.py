"""The launch command as tests use it: as a process with a Ray instance of its own, or in this process, where
the command's process is not what is tested, on a Ray instance that several launches share."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import run_sweep
from tests.conftest import ROOT

LIMIT_S = 150
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TOKEN = {name: ENVIRONMENT.pop(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}  # see conftest.py
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

Done = subprocess.CompletedProcess[str]

SHARED_RAY = """
import sys
from sweeps.execute import cluster
from sweeps.plan.resources import ClusterResources, Node
cluster.local_resources = lambda count_gpus: ClusterResources((Node(2, 2),))
cluster.connect(None, count_gpus=True)
print(cluster.ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
cluster.disconnect()
"""


def start(
    folder: Path, *arguments: object, process_group: int | None = None, **variables: str
) -> subprocess.Popen[str]:
    """The command as a process in `folder`; `variables` are added to its environment."""
    command = [sys.executable, str(ROOT / "run_sweep.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT | variables, process_group=process_group, **PIPES
    )


def run(folder: Path, *arguments: object, **variables: str) -> Done:
    """The same, to its end."""
    process = start(folder, *arguments, **variables)
    out, err = process.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run_here(folder: Path, *arguments: object) -> Done:
    """The command in `folder` without a process of its own: seconds less, as all is imported already."""
    command, out, err = [*map(str, arguments)], io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        status = run_sweep.main(command)
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


@contextmanager
def shared_ray() -> Iterator[str]:
    """The address of a Ray instance with two CPUs and, as far as Ray knows, two GPUs."""
    command = [sys.executable, "-c", SHARED_RAY]
    host = subprocess.Popen(command, env=ENVIRONMENT | TOKEN, stdin=subprocess.PIPE, **PIPES)
    assert host.stdout is not None
    try:
        yield host.stdout.readline().strip()
    finally:
        host.communicate(timeout=60)  # its input's end ends it
