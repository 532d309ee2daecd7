"""Shapes and types in the signatures of `trm` are checked while the tests run, and only then."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import sys
import time
from pathlib import Path

import fsspec
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# A process keeps the token that it had when it imported Ray, which it may do while tests are collected.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

for kind in (signal.SIGINT, signal.SIGHUP):  # a launch leaves ignored what was, as under nohup or with `&`
    if signal.getsignal(kind) is signal.SIG_IGN:
        signal.signal(kind, signal.SIG_DFL)

_hook = install_import_hook(["trm.layers", "trm.losses", "trm.model", "trm.mixers"], "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent

BUCKET = ROOT / "tests" / "bucket"
sys.path.append(str(BUCKET))
fsspec.register_implementation(
    "bucket", "bucket.Bucket", clobber=True
)  # fsspec may have been imported before

# They start before the others: one of them alone at the end would keep a process waiting.
LONGEST = {
    "test_launch.py", "test_changes.py", "test_interrupted.py", "test_device.py", "test_report.py",
    "test_trainer.py", "test_notebooks.py", "test_match.py", "test_ssm_mixers.py",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    gc.freeze()  # a million objects of the modules, which stay: no collection has to look at them


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real puzzles and recordings that are not the project's to ship; without them a test skips."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder `shared` beside the checkout (real puzzles), which is not there")
    return folder


@pytest.fixture
def cpu_second() -> float:
    """CPU seconds that what takes one on an idle, ordinary core takes here and now: bounds are in these."""
    begin = time.process_time()
    sum(number for number in range(10**6))
    return max(1.0, (time.process_time() - begin) / 0.05)
