"""KDA's block equals the token-by-token one; its sizes, and hard gates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.mixers.conformance import build
from tests.trm.mixers.delta_loop import block_loop
from tests.trm.mixers.reference import gradients, relative_error
from trm.grid import Layout
from trm.mixers.attention import AttentionConfig
from trm.mixers.kda import KDAConfig

LAYOUT = Layout(97)


@given(
    heads=st.integers(1, 3),
    d_state=st.integers(1, 6),
    head_dim=st.integers(1, 6),
    d_conv=st.integers(1, 5),
    allow_neg_eigval=st.booleans(),
    length=st.integers(1, 30) | st.just(200),
)
@settings(max_examples=25, deadline=None)
def test_the_block_is_that_of_the_loop(heads, d_state, head_dim, d_conv, allow_neg_eigval, length):
    config = KDAConfig(
        direction="forward",
        num_heads=heads,
        d_state=d_state,
        head_dim=head_dim,
        d_conv=d_conv,
        allow_neg_eigval=allow_neg_eigval,
    )
    module = build(config, 8, Layout(length)).double()
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(module.g_proj[1].bias, generator=generator)  # it starts at 0
    x, dy = (torch.randn(2, length, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    for found, expected in zip(
        gradients(module, [x], dy), gradients(lambda x: block_loop(module, x), [x], dy), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("length", [97, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strong_decays_and_a_large_beta(length, dtype):
    """Decays of exp(-100) in a step beside none, beta next to 0 and 2; the loop runs in float64."""
    config = KDAConfig(direction="forward", allow_neg_eigval=True, out_gain=1.0)
    module = build(config, 64, Layout(length))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.f_proj[1].weight.mul_(30)
        module.b_proj.weight.mul_(10)
    x, dy = (torch.randn(2, length, 64, generator=generator).to(dtype) for _ in range(2))
    found = gradients(module, [x], dy)
    assert all(parameter.isfinite().all() for parameter in found)
    if dtype == torch.float32:
        exact = module.double()
        expected = gradients(lambda x: block_loop(exact, x), [x.double()], dy.double())
        assert all(relative_error(a, b) < 2e-5 for a, b in zip(found, expected, strict=True))


def test_every_gradient_is_finite_when_a_step_forgets_all():
    """A factor exp(+g) above the diagonal, masked afterwards, would make these gradients NaN."""
    module = build(KDAConfig(direction="forward", allow_neg_eigval=True), 64, LAYOUT)
    with torch.no_grad():
        module.A_log.fill_(5.0)
        module.dt_bias.fill_(5.0)  # g near -742
    x = torch.randn(2, 97, 64, generator=torch.Generator().manual_seed(0))
    module(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_as_many_parameters_as_attention_by_default():
    for hidden in (128, 256, 512, 1024):
        share = KDAConfig().num_params(hidden, LAYOUT) / AttentionConfig().num_params(hidden, LAYOUT)
        assert 1 < share < 1.035, hidden


def test_of_the_published_parameter_formula():
    D, H, K, V = 512, 8, 56, 56
    low_rank = V * (D + H * K) + V * (D + H * V) + H * V
    counted = 2 * D * H * K + 2 * D * H * V + low_rank + D * H + 4 * (2 * H * K + H * V) + H + H * K + V
    assert KDAConfig(num_heads=H, d_state=K, head_dim=V).num_params(D, LAYOUT) == counted


def test_initial_decays_are_as_published():
    A = build(KDAConfig(num_heads=4096, d_state=1, head_dim=1), 8, LAYOUT).A_log.exp()
    assert 1 <= A.min() < 1.1 and 15.9 < A.max() <= 16


def test_each_reading_has_its_own_beta_and_decay():
    shared, own = (
        KDAConfig(num_heads=2, d_state=4, head_dim=6, direction=direction).num_params(16, LAYOUT)
        for direction in ("bidirectional_tied", "bidirectional")
    )
    assert own - shared == 2 * 16 + 6 * 2 * 4  # of beta, and from the 6 inner channels to the decays


def test_heads_that_do_not_share_the_channels_equally_are_refused():
    with pytest.raises(ValueError, match=r"^here\.d_state is made .*5 heads do not share 416.*give d_state"):
        KDAConfig(num_heads=5).check(512, "here")
