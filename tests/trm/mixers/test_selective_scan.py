import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.mixers.reference import gradients, relative_error, scan_loop
from trm.mixers import selective_scan as module
from trm.mixers.selective_scan import selective_scan


def inputs_of(length, channels=5, d_state=3, batch=2, dt=(0.0, 1.0), seed=0):
    """x, dt, A, B, C and dy, float64; step sizes uniform in the interval."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    steps = dt[0] + (dt[1] - dt[0]) * torch.rand(batch, length, channels, generator=generator).double()
    A = -torch.rand(channels, d_state, generator=generator).double() * 4 - 0.1
    states = [normal(batch, length, d_state) for _ in range(2)]
    return [normal(batch, length, channels), steps, A, *states], normal(batch, length, channels)


@given(
    length=st.integers(1, 30), channels=st.integers(1, 6), d_state=st.integers(1, 5), batch=st.integers(1, 3)
)
@settings(max_examples=25, deadline=None)
def test_equals_the_loop_with_its_gradients(length, channels, d_state, batch):
    inputs, dy = inputs_of(length, channels, d_state, batch)
    computed, expected = gradients(selective_scan, inputs, dy), gradients(scan_loop, inputs, dy)
    for one, other in zip(computed, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dt", [(5.0, 20.0), (1e-6, 2e-6), (1e-3, 20.0)])
def test_float32_keeps_its_digits_at_every_step_size(dt):
    inputs, dy = inputs_of(81, dt=dt)
    expected = gradients(scan_loop, inputs, dy)
    computed = gradients(selective_scan, [v.float() for v in inputs], dy)
    for one, other in zip(computed, expected, strict=True):
        assert one.dtype == torch.float32 and relative_error(one, other) < 1e-5


def test_bfloat16_activations_with_float32_step_sizes():
    inputs, dy = inputs_of(20)
    x, dt, A, B, C = (v.float() for v in inputs)
    low = gradients(selective_scan, [x.bfloat16(), dt, A, B.bfloat16(), C.bfloat16()], dy)
    bf16, f32 = torch.bfloat16, torch.float32
    assert [v.dtype for v in low] == [bf16, bf16, f32, f32, bf16, bf16]
    for one, other in zip(low, gradients(scan_loop, inputs, dy), strict=True):
        assert relative_error(one, other) < 0.02


def saved_numbers(length, d_state, batch=2, channels=8):
    """Numbers that one scan keeps for its backward pass."""
    inputs, _ = inputs_of(length, channels, d_state, batch)
    kept = []
    inputs = [v.requires_grad_() for v in inputs]
    with torch.autograd.graph.saved_tensors_hooks(lambda v: kept.append(v.numel()) or v, lambda v: v):
        selective_scan(*inputs)
    return sum(kept), sum(v.numel() for v in inputs)


@pytest.mark.parametrize("length", [16, 64, 256, 1024])
def test_memory_grows_with_the_root_of_length_times_state(length):
    batch, channels, d_state = 2, 8, 32
    kept, given = saved_numbers(length, d_state, batch, channels)
    assert kept <= given + batch * channels * d_state * length**0.5


def test_no_checkpoints_are_made_without_gradients(monkeypatch):
    inputs, _ = inputs_of(12)
    parameters = [v.requires_grad_() for v in inputs]
    expected = selective_scan(*parameters)
    steps_between = []
    original = module._scan
    monkeypatch.setattr(module, "_scan", lambda i, every: steps_between.append(every) or original(i, every))
    with torch.no_grad():
        torch.testing.assert_close(selective_scan(*parameters), expected)
    selective_scan(*(v.detach() for v in inputs))
    selective_scan(*parameters)
    assert steps_between == [None, None, 4]
