import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.trm.mixers.reference import gradients, relative_error, scan_loop
from trm.grid import Layout
from trm.mixers.kernels import scan as module
from trm.mixers.kernels.native import library
from trm.mixers.kernels.scan import SOURCE, selective_scan
from trm.mixers.mamba import MambaConfig

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
both_ways = pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=needs_compiler)], ids=["torch", "c"]
)


@pytest.fixture(autouse=True)
def compiled_where_there_is_a_compiler():
    """Without this, all that is asked of C would be asked of what stands in for it."""
    assert shutil.which("cc") is None or library(SOURCE) is not None


def inputs_of(length, channels=5, d_state=3, batch=2, dt=(0.0, 1.0), seed=0):
    """x, dt, A, B, C, D and dy, float64; step sizes uniform in the interval."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    steps = dt[0] + (dt[1] - dt[0]) * torch.rand(batch, length, channels, generator=generator).double()
    A = -torch.rand(channels, d_state, generator=generator).double() * 4 - 0.1
    states = [normal(batch, length, d_state) for _ in range(2)]
    x, dy = normal(batch, length, channels), normal(batch, length, channels)
    return [x, steps, A, *states, normal(channels)], dy


def read_backwards(inputs, dy):
    """What the loop gives where it reads from the last token to the first, and the gradients."""
    x, dt, A, B, C, D = inputs
    flipped = [x.flip(1), dt.flip(1), A, B.flip(1), C.flip(1), D]
    y, dx, ddt, dA, dB, dC, dD = gradients(scan_loop, flipped, dy.flip(1))
    return [y.flip(1), dx.flip(1), ddt.flip(1), dA, dB.flip(1), dC.flip(1), dD]


def assert_equals_the_loop(inputs, dy, dtype, **tolerance):
    """The scan's output and gradients in `dtype`, read either way, against the loop's in float64."""
    given = [v.to(dtype) for v in inputs]
    for reverse, expected in ((False, gradients(scan_loop, inputs, dy)), (True, read_backwards(inputs, dy))):
        computed = gradients(selective_scan, given, dy, reverse=reverse)
        for one, other in zip(computed, expected, strict=True):
            torch.testing.assert_close(one.double(), other, **tolerance)


@given(
    length=st.integers(1, 30), channels=st.integers(1, 6), d_state=st.integers(1, 5), batch=st.integers(1, 3)
)
@settings(max_examples=25, deadline=None)
def test_equals_the_loop_with_its_gradients(length, channels, d_state, batch):
    assert_equals_the_loop(*inputs_of(length, channels, d_state, batch), torch.float64)


@needs_compiler
@given(
    length=st.integers(1, 40), channels=st.integers(1, 70), d_state=st.integers(1, 9), batch=st.integers(1, 3)
)
@settings(max_examples=25, deadline=None)
def test_compiled_equals_the_loop_with_its_gradients(length, channels, d_state, batch):
    inputs = inputs_of(length, channels, d_state, batch)
    assert_equals_the_loop(*inputs, torch.float32, rtol=1e-4, atol=1e-5)


@both_ways
@pytest.mark.parametrize("dt", [(5.0, 20.0), (1e-6, 2e-6), (1e-3, 20.0), (50.0, 1e4)])
def test_float32_keeps_its_digits_at_every_step_size(dt, compiled):
    inputs, dy = inputs_of(81, dt=dt)
    expected = gradients(scan_loop, inputs, dy)
    computed = gradients(selective_scan, [v.float() for v in inputs], dy, compiled=compiled)
    for one, other in zip(computed, expected, strict=True):
        assert one.dtype == torch.float32 and relative_error(one, other) < 1e-5


@both_ways
def test_bfloat16_activations_with_float32_step_sizes(compiled):
    inputs, dy = inputs_of(20)
    x, dt, A, B, C, D = (v.float() for v in inputs)
    inputs_in_bf16 = [x.bfloat16(), dt, A, B.bfloat16(), C.bfloat16(), D]
    low = gradients(selective_scan, inputs_in_bf16, dy, compiled=compiled)
    bf16, f32 = torch.bfloat16, torch.float32
    assert [v.dtype for v in low] == [bf16, bf16, f32, f32, bf16, bf16, f32]
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
    original = module.IN_TORCH
    spy = original._replace(
        scan=lambda i, r, every: steps_between.append(every) or original.scan(i, r, every)
    )
    monkeypatch.setattr(module, "IN_TORCH", spy)
    with torch.no_grad():
        torch.testing.assert_close(selective_scan(*parameters), expected)
    selective_scan(*(v.detach() for v in inputs))
    selective_scan(*parameters)
    assert steps_between == [0, 0, 4]


def test_mamba_counts_what_the_counter_would_see_inside():
    x, dt, A, B, C, D = inputs_of(12)[0]
    with FlopCounterMode(display=False) as inside:
        module.IN_TORCH.scan((x, dt, A, B, C, D), False, 0)
    with FlopCounterMode(display=False) as outside:
        selective_scan(x, dt, A, B, C, D)
    mamba = MambaConfig(d_state=3, expand=1.0, direction="forward")
    assert outside.get_total_flops() == 0
    assert inside.get_total_flops() == 2 * mamba.uncounted_flops(5, Layout(12)) > 0


@both_ways
def test_the_operator_keeps_what_torch_asks_of_one(compiled):
    """Its schema, its shapes where there are no numbers, and its gradient under a compiler's tracing."""
    inputs, dy = inputs_of(12)
    x, dt, A, B, C, D = (v.float() for v in inputs)
    turned = [v.mT.contiguous().mT for v in (x, dt, A, B, C)]  # the same numbers in another layout
    for detached in ([x, dt, A, B, C, D], [*turned, D]):
        scan, gradients_ = torch.ops.trm.selective_scan, torch.ops.trm.selective_scan_gradients
        torch.library.opcheck(
            scan.default, (*(v.clone().requires_grad_() for v in detached), True, 4, compiled)
        )
        _, checkpoints = scan(*detached, False, 4, compiled)
        torch.library.opcheck(gradients_.default, (*detached, dy.float(), checkpoints, False, 4, compiled))


@both_ways
def test_its_gradients_cannot_be_differentiated_and_say_so(compiled):
    inputs = [v.float().requires_grad_() for v in inputs_of(6)[0]]
    y = selective_scan(*inputs, compiled=compiled)
    (dx,) = torch.autograd.grad(y.sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        torch.autograd.grad(dx.sum(), inputs[1])


@both_ways
def test_what_is_not_a_number_stays_so_and_in_its_row(compiled):
    inputs = [v.float() for v in inputs_of(12)[0]]
    for spoilt in (0, 1, 3, 4):
        bad = [v.clone() for v in inputs]
        bad[spoilt][0, 5] = torch.nan
        y = selective_scan(*bad, compiled=compiled)
        last = 6 if spoilt == 4 else None  # C is the token's alone; everything else stays in the state
        assert y[0, 5:last].isnan().all() and y[0, :5].isfinite().all() and y[1].isfinite().all()


@needs_compiler
def test_the_bits_do_not_depend_on_the_number_of_threads():
    inputs, dy = inputs_of(30, channels=50, batch=5)
    inputs, before = [v.float() for v in inputs], torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(gradients(selective_scan, inputs, dy))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, another) for one, another in zip(results[0], other, strict=True))


def test_c_is_used_where_it_suits_and_not_where_it_is_turned_off(monkeypatch):
    calls = []
    stepper = module.IN_TORCH._replace(scan=lambda *given: calls.append("c") or module.IN_TORCH.scan(*given))
    monkeypatch.setattr(module, "IN_C", stepper)
    monkeypatch.setattr(module, "library", lambda source: object())
    inputs, _ = inputs_of(6)
    selective_scan(*inputs)  # float64
    assert calls == []
    selective_scan(*(v.float() for v in inputs))
    assert calls == ["c"]
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
    for backend, expected in (("torch", ["c"]), ("auto", ["c", "c"])):
        config = MambaConfig(backend=backend, d_state=3, expand=1.0)
        config.build(8, Layout(6), 0, None)(x)
        assert calls == expected


def test_without_a_compiler_it_is_the_same_to_rounding(monkeypatch):
    inputs, dy = inputs_of(20, channels=40)
    inputs = [v.float() for v in inputs]
    here = gradients(selective_scan, inputs, dy)
    monkeypatch.setenv("CC", "/nowhere/cc")
    library.cache_clear()
    try:
        assert library(SOURCE) is None
        there = gradients(selective_scan, inputs, dy)
    finally:
        library.cache_clear()
    assert all(relative_error(one, other) < 1e-5 for one, other in zip(here, there, strict=True))
