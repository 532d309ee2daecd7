"""What a training step asks of a GPU does not grow unnoticed."""

from __future__ import annotations

import pytest
import torch

from benchmarks.traffic import StepTraffic, Traffic, of_a_step
from tests.trm.fake_cuda import needs_compiler, on_fake_cuda
from tests.trm.mixers.conformance import small
from tests.trm.test_on_fake_cuda import tiny
from trm.mixers import MIXERS

pytestmark = needs_compiler

# Of a step of `tiny`: 4 rows of 17 tokens, 16 channels, one layer, three updates.
CEILINGS = {
    "attention": StepTraffic(launches=545, bytes=7_912_566, saved=600_984),
    "mlp": StepTraffic(launches=494, bytes=12_688_678, saved=1_025_472),
    "mamba": StepTraffic(launches=735, bytes=8_534_174, saved=672_120),
    "mamba2": StepTraffic(launches=1_039, bytes=12_162_165, saved=859_779),
    "mamba3": StepTraffic(launches=1_386, bytes=14_242_133, saved=1_003_395),
    "mlstm": StepTraffic(launches=1_142, bytes=10_607_733, saved=775_299),
    "rwkv7": StepTraffic(launches=1_495, bytes=14_767_063, saved=1_099_140),
    "gated_deltanet": StepTraffic(launches=1_364, bytes=12_082_381, saved=889_395),
    "kda": StepTraffic(launches=1_982, bytes=11_859_114, saved=775_200),
}


@pytest.mark.parametrize("kind", CEILINGS)
def test_a_step_asks_for_no_more_than_it_did(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trm.batches._BLOCK", 64)  # few operations to draw the batches ahead
    counted = of_a_step(tiny(small(MIXERS[kind])))
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
