"""Gated DeltaNet's block equals the token-by-token one; its sizes, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.mixers.conformance import build
from tests.trm.mixers.delta_loop import block_loop
from tests.trm.mixers.reference import gradients, relative_error
from trm.grid import Grid, Layout
from trm.mixers.attention import AttentionConfig
from trm.mixers.gated_deltanet import GatedDeltaNetConfig

LAYOUT = Layout(97, Grid(9, 9, (3, 3)))


@given(
    heads=st.integers(1, 3),
    ratio=st.integers(1, 2),
    d_state=st.integers(1, 6),
    head_dim=st.integers(1, 6),
    d_conv=st.integers(1, 5),
    allow_neg_eigval=st.booleans(),
    length=st.integers(1, 30) | st.just(200),
)
@settings(max_examples=25, deadline=None)
def test_the_block_is_that_of_the_loop(heads, ratio, d_state, head_dim, d_conv, allow_neg_eigval, length):
    config = GatedDeltaNetConfig(
        direction="forward",
        num_heads=heads,
        num_v_heads=ratio * heads,
        d_state=d_state,
        head_dim=head_dim,
        d_conv=d_conv,
        allow_neg_eigval=allow_neg_eigval,
    )
    module = build(config, 8, Layout(length)).double()
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(2, length, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    for found, expected in zip(
        gradients(module, [x], dy), gradients(lambda x: block_loop(module, x), [x], dy), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("length", [97, 200])
def test_strong_decays_and_a_large_beta_in_float32(length):
    """Steps up to hundreds, beta next to 0 and 2; the loop runs in float64."""
    config = GatedDeltaNetConfig(direction="forward", allow_neg_eigval=True, out_gain=1.0)
    module = build(config, 64, Layout(length))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.a_proj.weight.mul_(30)
        module.b_proj.weight.mul_(10)
    x, dy = (torch.randn(2, length, 64, generator=generator) for _ in range(2))
    found = gradients(module, [x], dy)
    exact = module.double()
    expected = gradients(lambda x: block_loop(exact, x), [x.double()], dy)
    assert all(relative_error(a, b) < 2e-5 for a, b in zip(found, expected, strict=True))


def test_as_many_parameters_as_attention_by_default():
    for hidden in (128, 256, 512, 1024):
        share = GatedDeltaNetConfig().num_params(hidden, LAYOUT) / AttentionConfig().num_params(
            hidden, LAYOUT
        )
        assert 1 < share < 1 + 6 / hidden, hidden


def test_of_the_published_parameter_formula():
    """mixers of 4 heads of 96 and 104 channels: 2 D H K + 3 D H V + 2 D H + k (2 H K + H V) + 2 H + V."""
    D, H, K, V = 512, 4, 96, 104
    counted = 2 * D * H * K + 3 * D * H * V + 2 * D * H + 4 * (2 * H * K + H * V) + 2 * H + V
    assert GatedDeltaNetConfig(d_state=K, head_dim=V).num_params(D, LAYOUT) == counted


def test_initial_decays_are_as_published():
    module = build(GatedDeltaNetConfig(num_heads=4096, num_v_heads=4096, d_state=1, head_dim=1), 8, LAYOUT)
    A = module.A_log.exp()
    assert 0 < A.min() < 0.1 and 15.9 < A.max() < 16 and abs(A.mean() - 8) < 0.3
    step = torch.nn.functional.softplus(module.dt_bias).log10()
    assert step.min() > -3.01 and step.max() < -0.99 and abs(step.mean() + 2) < 0.05


def test_each_reading_has_its_own_beta_and_decay():
    shared, own = (
        GatedDeltaNetConfig(num_heads=2, direction=direction).num_params(16, LAYOUT)
        for direction in ("bidirectional_tied", "bidirectional")
    )
    assert own - shared == 2 * 2 * 16


@pytest.mark.parametrize(
    ("fields", "hidden", "message"),
    [
        (
            {"num_heads": 3},
            512,
            r"d_state is made from model\.hidden_size, 512, but 3 heads do not share 256",
        ),
        ({"num_heads": 4, "d_state": 8}, 30, r"head_dim is made from .*, 30, but 4 heads do not share 30"),
        ({"num_heads": 4, "num_v_heads": 6, "head_dim": 8}, 512, r"num_v_heads is 6, .*give a multiple of 4"),
        (
            {"order": ("row", "column", "box")},
            512,
            r"order has 3 entries.*the 4 heads: give fewer, or another",
        ),
    ],
)
def test_what_does_not_come_out_even_is_refused(fields, hidden, message):
    with pytest.raises(ValueError, match=r"^here\." + message):
        GatedDeltaNetConfig(**fields).check(hidden, "here")


def test_a_direction_that_it_does_not_have_is_refused():
    with pytest.raises(ValueError, match="direction"):
        GatedDeltaNetConfig(direction="quasiseparable")
    with pytest.raises(ValueError, match=r"here\.order has 'box'.*choose row or column"):
        GatedDeltaNetConfig(order="box").check_grid(Grid(30, 30), "here")
