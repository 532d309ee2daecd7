"""What glibc keeps of freed memory: seen by the page faults of asking for it again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FAULTS = """
import resource
import torch
from trm.device import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 20)  # 4 MiB, 1,024 pages
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20

torch.set_num_threads(1)
first = faults()
keep_freed_memory()
torch.ones(1 << 20)
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, whose mallopt it calls")
@pytest.mark.parametrize("variable", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}])
def test_freed_memory_is_kept_unless_glibcs_own_variables_say_otherwise(variable: dict[str, str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | variable
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    first, then = map(float, done.stdout.split())
    assert first > 100  # with huge pages not one for each page of 4 KiB
    assert (then < first / 5) != bool(variable), (first, then)
