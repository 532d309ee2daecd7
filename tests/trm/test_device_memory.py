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

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        tensors = [torch.ones(1 << 20) for _ in range(16)]  # 64 MiB, 16,384 pages
        del tensors
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps

torch.set_num_threads(1)
first = faults(1)
keep_freed_memory()
faults(6)  # the heap grows until all have their place
print(first, faults(6))
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
    assert first > 30  # with huge pages one for each 2 MiB
    assert (then < first / 5) != bool(variable), (first, then)
