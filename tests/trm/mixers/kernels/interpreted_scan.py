"""The Triton scan in Triton's interpreter on a CPU; `test_scan_triton.py` runs this file.

A process of its own, with TRITON_INTERPRET=1 from the start: Triton reads it where a kernel is defined.
"""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.trm.mixers.kernels.test_scan import inputs_of, read_backwards
from tests.trm.mixers.reference import gradients, scan_loop
from trm.mixers.kernels import parity, scan_triton
from trm.mixers.kernels import scan as module
from trm.mixers.kernels.scan import selective_scan

IN_TRITON = module.Stepper(scan_triton.scan, scan_triton.gradients)


@pytest.fixture(autouse=True)
def the_operator_calls_triton(monkeypatch):
    """As on a GPU, here on a CPU."""
    monkeypatch.setattr(module, "IN_C", IN_TRITON)
    monkeypatch.setattr(module, "library", lambda source: object())


def assert_equals_the_loop(inputs, dy, reverse, tolerance=1e-5):
    """y and all gradients in float32, against the loop in float64."""
    expected = read_backwards(inputs, dy) if reverse else gradients(scan_loop, inputs, dy)
    computed = gradients(selective_scan, [v.float() for v in inputs], dy, reverse=reverse)
    for one, other in zip(computed, expected, strict=True):
        assert one.dtype == torch.float32
        # What is too small for float32 may be zero, and the gradient by A of a single token is.
        assert (one.double() - other).norm() <= tolerance * other.norm() + 1e-30


@given(
    length=st.integers(1, 7),
    channels=st.integers(1, 70),
    d_state=st.integers(1, 20),
    batch=st.integers(1, 2),
    reverse=st.booleans(),
)
@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate])  # it shrinks for minutes
def test_equals_the_loop_with_its_gradients(length, channels, d_state, batch, reverse):
    assert_equals_the_loop(*inputs_of(length, channels, d_state, batch), reverse)


@pytest.mark.parametrize("dt", [(1e-6, 2e-6), (1e-3, 75.0), (50.0, 1e4)])
def test_keeps_its_digits_at_every_step_size(dt):
    assert_equals_the_loop(*inputs_of(20, dt=dt), reverse=dt[0] < 1)


def test_a_step_size_of_zero_keeps_the_state():
    (x, dt, *others), dy = inputs_of(10)
    dt[:, 3:7] = 0
    assert_equals_the_loop([x, dt, *others], dy, reverse=False)


def test_long_sequences():
    assert_equals_the_loop(*inputs_of(300, channels=3, d_state=5, batch=1, dt=(0.0, 0.1)), reverse=True)


def test_many_states():
    assert_equals_the_loop(*inputs_of(5, channels=40, d_state=200), reverse=True)


def test_bfloat16_activations_with_float32_step_sizes():
    case = parity.Case(2, 10, 33, 5, (1e-3, 20.0))
    low = parity.worst_errors("cpu", torch.bfloat16, [case])
    assert max(low[name] for name in ("y", "dx", "dB", "dC")) < 4e-3  # rounded to bfloat16
    assert max(low[name] for name in ("ddt", "dA", "dD")) < 2e-6


def test_the_operator_keeps_what_torch_asks_of_one():
    inputs, dy = inputs_of(3, batch=1)
    x, dt, A, B, C, D = (v.float() for v in inputs)
    turned = [v.mT.contiguous().mT for v in (x, dt, A, B, C)]  # the same numbers in another layout
    scan, gradients_ = torch.ops.trm.selective_scan, torch.ops.trm.selective_scan_gradients
    torch.library.opcheck(scan.default, (*(v.clone().requires_grad_() for v in [*turned, D]), True, 2, True))
    _, checkpoints = scan(*turned, D, False, 2, True)
    torch.library.opcheck(gradients_.default, (*turned, D, dy.float(), checkpoints, False, 2, True))


def test_slices_of_wider_tensors_are_read_in_place():
    """B and C are parts of one projection, x and dt parts of all channels."""
    x, dt, A, B, C, D = (v.float() for v in inputs_of(6)[0])
    x, dt, B, C = (torch.cat([v + 1, v, v - 1], -1)[..., v.shape[-1] : -v.shape[-1]] for v in (x, dt, B, C))
    expected = selective_scan(*(v.contiguous() for v in (x, dt, A, B, C)), D)
    assert torch.equal(selective_scan(x, dt, A, B, C, D), expected)


def test_what_is_not_a_number_stays_so_and_in_its_row():
    inputs = [v.float() for v in inputs_of(8)[0]]
    for spoilt in (0, 1, 3, 4):
        bad = [v.clone() for v in inputs]
        bad[spoilt][0, 3] = torch.nan
        y = selective_scan(*bad)
        last = 4 if spoilt == 4 else None  # C is the token's alone; everything else stays in the state
        assert y[0, 3:last].isnan().all() and y[0, :3].isfinite().all() and y[1].isfinite().all()


def test_the_bits_are_the_same_each_time():
    inputs, dy = inputs_of(3, channels=140)
    inputs = [v.float() for v in inputs]
    one, other = (gradients(selective_scan, inputs, dy) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
