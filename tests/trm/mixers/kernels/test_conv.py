import shutil

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.trm.mixers.reference import gradients
from trm.grid import Layout
from trm.mixers.kernels import conv as module
from trm.mixers.kernels.conv import SOURCE, CausalConv1d, causal_conv1d, conv_silu
from trm.mixers.kernels.native import library
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")


def conv1d(x, weight, bias):
    """The same by `F.conv1d`."""
    channels, _, taps = weight.shape
    y = F.conv1d(x.mT, weight, bias, padding=taps - 1, groups=channels)
    return y[..., : x.shape[1]].mT


def inputs_of(length, taps, channels=6, batch=2):
    """x, weight, bias and dy, float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, length, channels), (channels, 1, taps), (channels,), (batch, length, channels)]
    *inputs, dy = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes)
    return inputs, dy


@pytest.mark.parametrize(("length", "taps"), [(11, 4), (3, 4), (1, 4), (4, 4), (7, 1), (5, 2)])
def test_equals_conv1d_with_its_gradients(length, taps):
    inputs, dy = inputs_of(length, taps)
    for computed, expected in zip(
        gradients(causal_conv1d, inputs, dy), gradients(conv1d, inputs, dy), strict=True
    ):
        torch.testing.assert_close(computed, expected)
    x, weight, bias = inputs
    y, dx, *rest = gradients(conv1d, [x.flip(1), weight, bias], dy.flip(1))
    read_backwards = gradients(causal_conv1d, inputs, dy, backwards=True)
    for computed, expected in zip(read_backwards, [y.flip(1), dx.flip(1), *rest], strict=True):
        torch.testing.assert_close(computed, expected)


def test_gradient_check():
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in [(2, 5, 3), (3, 1, 4), (3,)]
    ]
    assert torch.autograd.gradcheck(causal_conv1d, inputs)


@needs_compiler
@given(
    length=st.integers(1, 12), taps=st.integers(1, 6), channels=st.integers(1, 70), backwards=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_compiled_equals_the_operations_with_its_gradients(length, taps, channels, backwards):
    assert library(SOURCE) is not None
    inputs, dy = inputs_of(length, taps, channels)
    in_c, in_torch = (
        gradients(conv_silu, [v.float() for v in inputs], dy.float(), backwards=backwards, in_c=way)
        for way in (True, False)
    )
    exact = gradients(conv_silu, inputs, dy, backwards=backwards)  # float64 is never C's
    for one, other, expected in zip(in_c, in_torch, exact, strict=True):
        torch.testing.assert_close(one.double(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(other.double(), expected, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0, 200.0])
def test_compiled_keeps_its_digits_far_from_zero(scale):
    (x, weight, bias), dy = inputs_of(9, 4)
    inputs = [x * scale, weight, bias]
    for computed, expected in zip(
        gradients(conv_silu, [v.float() for v in inputs], dy.float()),
        gradients(conv_silu, inputs, dy),
        strict=True,
    ):
        error = (computed.double() - expected).abs().max() / expected.abs().max()
        assert error < 1e-6


VIEWS = {
    "half of a projection": lambda x: torch.cat((torch.full_like(x, torch.nan), x), dim=-1).chunk(2, dim=-1)[
        1
    ],
    "rows inside": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "tokens inside": lambda x: x.mT.contiguous().mT,
}


@needs_compiler
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_compiled_reads_what_does_not_lie_side_by_side(view):
    for length in (8, 1):  # of an axis of one, PyTorch leaves the stride what it was
        (x, *parameters), dy = inputs_of(length, 4)
        inputs = [v.float() for v in (x, *parameters)]
        expected = gradients(conv_silu, inputs, dy)
        computed = gradients(lambda x, *rest: conv_silu(view(x), *rest), inputs, dy)
        for one, other in zip(computed, expected, strict=True):
            assert torch.equal(one, other)


@needs_compiler
def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    inputs, dy = inputs_of(9, 4, channels=40, batch=5)
    inputs, dy = [v.float() for v in inputs], dy.float()
    alone = gradients(conv_silu, inputs, dy)
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 3)
    for one, other in zip(gradients(conv_silu, inputs, dy), alone, strict=True):
        assert torch.equal(one, other)


@needs_compiler
def test_the_silu_keeps_its_digits_where_it_is_almost_0():
    x = torch.linspace(-80, 80, 4001, dtype=torch.float64)[None, :, None].requires_grad_()
    weight, bias = torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    y, dx, *_ = gradients(conv_silu, [x.float(), weight.float(), bias.float()], torch.ones_like(x).float())
    expected = F.silu(x)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(y.double(), expected.detach(), rtol=1e-5, atol=0)
    # The slope is 0 near x = -1.28, where its terms cancel.
    torch.testing.assert_close(dx.double(), slope, rtol=1e-4, atol=1e-7)


CONFIGS = [(MambaConfig, {"expand": 1.0}), (Mamba2Config, {"expand": 1.0, "headdim": 4})]


@needs_compiler
@pytest.mark.parametrize(("kind", "fields"), CONFIGS)
def test_c_is_used_where_it_suits_and_not_where_it_is_turned_off(monkeypatch, kind, fields):
    calls, original = [], module.call
    monkeypatch.setattr(module, "call", lambda *given: calls.append(given[1]) or original(*given))
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
    for backend, dtype, expected in (
        ("torch", x.dtype, False),
        ("auto", torch.float64, False),
        ("auto", x.dtype, True),
    ):
        mixer = kind(backend=backend, d_state=3, **fields).build(8, Layout(6), 0, None).to(dtype)
        mixer(x.to(dtype)).sum().backward()
        assert set(calls) == ({"conv_silu", "conv_silu_gradients"} if expected else set())


def test_what_is_traced_or_of_two_dtypes_is_not_read_by_c():
    (x, weight, bias), _ = inputs_of(5, 2)
    mode, singles = FakeTensorMode(), [v.float() for v in (x, weight, bias)]
    traced = [mode.from_tensor(v) for v in singles]
    with mode:
        assert conv_silu(*traced).shape == x.shape
    torch.testing.assert_close(
        conv_silu(x.float(), weight, bias),
        conv_silu(x, weight, bias),
        check_dtype=False,
        rtol=1e-5,
        atol=1e-5,
    )


def test_not_a_number_is_handed_on():
    inputs, _ = inputs_of(5, 2)
    x, weight, bias = (v.float() for v in inputs)
    x[0, 2, 1] = torch.nan
    is_nan = conv_silu(x, weight, bias).isnan()
    assert is_nan[0, 2:4, 1].all() and is_nan.sum() == 2


def test_the_module_takes_the_filters_from_start_on():
    module = CausalConv1d(7, taps=3)
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = F.silu(conv1d(x, module.weight[3:], module.bias[3:]))
    torch.testing.assert_close(module(x, start=3), expected)
    assert module.weight.abs().max() <= 3**-0.5
