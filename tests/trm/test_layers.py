import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.layers import (
    CastedEmbedding,
    CastedLinear,
    ConvSwiGLU,
    RotaryEmbedding,
    SwiGLU,
    apply_rotary,
    rms_norm,
    swiglu_width,
    trunc_normal_,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_trunc_normal_has_the_std_asked_for_and_is_cut():
    values = trunc_normal_(torch.empty(200_000), std=0.5, generator=generator())
    assert values.std() == pytest.approx(0.5, rel=0.01)
    assert values.abs().max() <= 2 * 0.5 / 0.8796  # at two standard deviations of the uncut normal


def test_trunc_normal_draws_from_its_generator_alone():
    first = trunc_normal_(torch.empty(100), 1.0, generator(3))
    torch.rand(7)
    assert torch.equal(first, trunc_normal_(torch.empty(100), 1.0, generator(3)))


@pytest.mark.parametrize("dim", [-1, -2])
def test_rms_norm_gives_unit_rms_on_its_axis(dim):
    x = 5 * torch.randn(3, 6, 8, generator=generator())
    rms = rms_norm(x, dim=dim).square().mean(dim).sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms), rtol=1e-5, atol=1e-5)


def test_rms_norm_computes_bfloat16_in_float32():
    x = torch.randn(4, 512, generator=generator()).bfloat16()
    normed = rms_norm(x)
    assert normed.dtype == torch.bfloat16
    torch.testing.assert_close(normed, rms_norm(x.float()).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("hidden_size", "expansion", "width"),
    [(512, 4.0, 1536), (97, 4.0, 512), (81, 4.0, 256), (64, 4.0, 256), (64, 1.0, 256), (384, 1.0, 256)],
)
def test_swiglu_width_is_rounded_up_to_a_multiple_of_256(hidden_size, expansion, width):
    assert swiglu_width(hidden_size, expansion) == width
    swiglu = SwiGLU(hidden_size, expansion)
    assert sum(p.numel() for p in swiglu.parameters()) == 3 * hidden_size * width


def test_casted_linear_keeps_float32_weights_and_computes_in_the_inputs_dtype():
    linear = CastedLinear(8, 4, bias=True)
    out = linear(torch.randn(3, 8, generator=generator()).bfloat16())
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert linear.weight.dtype == linear.weight.grad.dtype == linear.bias.grad.dtype == torch.float32


def test_casted_linear_starts_as_lecun_normal_without_bias():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = CastedLinear(256, 512, bias=True)
    assert linear.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert not linear.bias.any()


def test_casted_embedding_looks_up_rows_in_the_dtype_asked_for():
    embedding = CastedEmbedding(5, 8, std=1.0)
    ids = torch.tensor([[0, 4], [2, 2]], dtype=torch.int32)
    assert torch.equal(embedding(ids), embedding.embedding_weight[ids.long()])
    assert embedding(ids, torch.bfloat16).dtype == torch.bfloat16


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), shift=st.integers(0, 5), gap=st.integers(0, 5))
def test_rotary_products_depend_on_the_distance_alone(seed, shift, gap):
    cos, sin = RotaryEmbedding(8, 16)()
    q, k = (torch.randn(8, generator=generator(seed + i)).expand(1, 1, 16, 8) for i in (0, 1))
    q, k = apply_rotary(q, k, cos, sin)
    product = (q[0, 0, gap] * k[0, 0, 0]).sum()
    shifted = (q[0, 0, gap + shift] * k[0, 0, shift]).sum()
    torch.testing.assert_close(product, shifted, rtol=1e-4, atol=1e-4)


def test_rotary_leaves_position_0_and_all_norms():
    cos, sin = RotaryEmbedding(8, 32, theta=100.0)()
    q = torch.randn(2, 3, 20, 8, generator=generator())  # shorter than the table
    rotated, _ = apply_rotary(q, q, cos, sin)
    torch.testing.assert_close(rotated[:, :, 0], q[:, :, 0])
    torch.testing.assert_close(rotated.norm(dim=-1), q.norm(dim=-1))
    assert not torch.allclose(rotated[:, :, 1:], q[:, :, 1:])


def test_conv_swiglu_is_a_convolution_of_two_tokens_between_two_silus():
    """As `nn.Conv1d` with padding 1 computes it, cut to the sequence."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = ConvSwiGLU(8, 1.0)
    x = torch.randn(3, 5, 8, generator=generator())
    gate, up = layer.gate_up_proj(x).chunk(2, dim=-1)
    hidden = (F.silu(gate) * up).transpose(1, 2)
    weight = layer.conv_weight.T[:, None]
    conv = F.conv1d(hidden, weight, layer.conv_bias, padding=1, groups=hidden.shape[1])[..., :5]
    torch.testing.assert_close(layer(x), layer.down_proj(F.silu(conv).transpose(1, 2)))
    assert layer(x.bfloat16()).dtype == torch.bfloat16
