"""What a training step asks of a GPU does not grow unnoticed."""

from __future__ import annotations

import pytest
import torch

from benchmarks.traffic import StepTraffic, Traffic, of_a_step
from tests.trm.fake_cuda import needs_compiler, on_fake_cuda
from tests.trm.test_trainer import make_config

pytestmark = needs_compiler

# Of `make_config(kind)`: 16 rows of 17 tokens, 16 channels, one layer, two updates of four with a gradient.
CEILINGS = {
    "attention": StepTraffic(launches=507, bytes=22_351_442, saved=1_470_832),
    "mlp": StepTraffic(launches=451, bytes=33_820_866, saved=2_458_560),
    "mamba": StepTraffic(launches=648, bytes=25_006_358, saved=1_808_992),
    "mamba2": StepTraffic(launches=919, bytes=47_672_172, saved=2_557_090),
}


@pytest.mark.parametrize("kind", CEILINGS)
def test_a_step_asks_for_no_more_than_it_did(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trm.batches._BLOCK", 64)  # few operations to draw the batches ahead
    counted = of_a_step(make_config(kind))
    for name, most in CEILINGS[kind]._asdict().items():
        now = getattr(counted, name)
        assert now <= 1.02 * most, f"{kind}: {name} of a step: {now}, more than {most}: is it worth that?"
        assert now >= 0.95 * most, f"{kind}: {name} of a step: {now}, less than {most}: lower the ceiling"


def test_what_counts() -> None:
    with on_fake_cuda():
        x = torch.zeros(8, 4, device="cuda:0")  # 128 bytes
        with Traffic() as traffic:
            x.T.reshape(32).view(2, 16)  # one copy: 128 read, 128 written
            torch.empty_like(x)
            x[None].expand(3, 8, 4) + 1  # 128 read, 384 written
            x.copy_(x[:1])  # 16 read, 128 written
            x.mul_(2)  # 128 read, 128 written
            torch.zeros(8) + 1  # on the host
    assert (traffic.launches, traffic.bytes) == (4, 256 + 512 + 144 + 256)


def test_a_scan_is_one_launch_or_many() -> None:
    launches = {}
    with on_fake_cuda():
        x, B = (torch.zeros(2, 9, size, device="cuda:0") for size in (4, 3))
        inputs = (x, x, torch.zeros(4, 3, device="cuda:0"), B, B, torch.zeros(4, device="cuda:0"))
        for scan_in_torch in (False, True):
            with Traffic(scan_in_torch) as traffic:
                y, checkpoints = torch.ops.trm.selective_scan(*inputs, False, 3, True)
                forward = traffic.launches
                torch.ops.trm.selective_scan_gradients(*inputs, y, checkpoints, False, 3, True)
            launches[scan_in_torch] = forward, traffic.launches - forward
    assert launches[False] == (1, 5)  # backward one, and four sums
    assert launches[True][0] > 9 * 5 and launches[True][1] > 9 * 10  # several for each token
