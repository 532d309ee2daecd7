"""What a worker takes of its machine: threads, and memory of a GPU that is not there."""

from __future__ import annotations

import os

import pytest
import torch

from sweeps.execute.worker import limit_gpu_memory, set_threads

GIB = 2**30


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The shares of a GPU of 8 GiB that torch is limited to."""
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (8 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    return limits


@pytest.mark.parametrize(
    ("gpu", "share"),
    [(0.25, 0.25 - 1 / 16), (0.5, 0.5 - 1 / 16), (1.0, 1.0), (2.0, 1.0), (0.01, 0.001)],
)
def test_a_share_of_a_gpu_limits_memory(shares: list[float], gpu: float, share: float) -> None:
    """A sixteenth of 8 GiB is CUDA's own."""
    limit_gpu_memory(gpu)
    assert shares == [pytest.approx(share)]


def test_a_trial_without_a_gpu_limits_none(shares: list[float]) -> None:
    limit_gpu_memory(0)
    assert shares == []


@pytest.mark.parametrize(("cpu", "threads"), [(0.5, 1), (1, 1), (2.9, 2)])
def test_the_compiler_uses_no_more_threads_than_the_trial_has_cores(
    monkeypatch: pytest.MonkeyPatch, cpu: float, threads: int
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "")
    before = torch.get_num_threads()
    with config.patch(compile_threads=32):
        set_threads(cpu)
        used = config.compile_threads, torch.get_num_threads()
        torch.set_num_threads(before)
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == str(threads)
    assert used == (threads, threads)
