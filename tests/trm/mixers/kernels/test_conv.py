import pytest
import torch
import torch.nn.functional as F

from tests.trm.mixers.reference import gradients
from trm.mixers.kernels.conv import CausalConv1d, causal_conv1d


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


def test_not_a_number_is_handed_on():
    inputs, _ = inputs_of(5, 2)
    x, weight, bias = (v.float() for v in inputs)
    x[0, 2, 1] = torch.nan
    is_nan = causal_conv1d(x, weight, bias).isnan()
    assert is_nan[0, 2:4, 1].all() and is_nan.sum() == 2


def test_the_module_takes_the_filters_from_start_on():
    module = CausalConv1d(7, taps=3)
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = F.silu(conv1d(x, module.weight[3:], module.bias[3:]))
    torch.testing.assert_close(module(x, start=3), expected)
    assert module.weight.abs().max() <= 3**-0.5
