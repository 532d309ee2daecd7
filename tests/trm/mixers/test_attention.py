import pytest
import torch
import torch.nn.functional as F

from trm.grid import Layout
from trm.layers import RotaryEmbedding, apply_rotary
from trm.mixers.attention import AttentionConfig


@pytest.mark.parametrize("rope", [None, RotaryEmbedding(4, 6)])
def test_equals_attention_written_out(rope):
    module = AttentionConfig(num_heads=2).build(8, Layout(6), 0, rope and 1e4)
    x = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    q, k, v = (part.view(3, 6, 2, 4).transpose(1, 2) for part in (x @ module.qkv_proj.weight.T).chunk(3, -1))
    if rope is not None:
        q, k = apply_rotary(q, k, *rope())
    weights = (q @ k.mT / 2).softmax(-1)
    expected = (weights @ v).transpose(1, 2).reshape(3, 6, 8) @ module.o_proj.weight.T
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(("length", "width"), [(6, 4), (32, 32), (33, 32)])
def test_few_tokens_are_multiplied_out_on_a_cpu_and_give_the_same(monkeypatch, length, width):
    fused, original = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *given: fused.append(1) or original(*given))
    x = torch.randn(2, length, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for backend in ("auto", "sdpa"):
        config = AttentionConfig(num_heads=2, head_dim=width, backend=backend)
        torch.manual_seed(0)
        module = config.build(8, Layout(length), 0, 1e4).double()
        y = module(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), module.parameters())])
    torch.testing.assert_close(*found)
    assert len(fused) == (1 if length * width <= 1024 else 2)


def test_parameter_names():
    module = AttentionConfig(num_heads=2).build(8, Layout(6), 0, None)
    assert {n: tuple(p.shape) for n, p in module.named_parameters()} == {
        "qkv_proj.weight": (24, 8),
        "o_proj.weight": (8, 8),
    }


def test_heads_that_do_not_divide_are_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"num_heads is 5.*hidden_size, 24,.*one of 1, 2, 3, 4, 6, 12$"):
        AttentionConfig(num_heads=5).check(24)
    with pytest.raises(ValueError, match="even hidden_size"):
        AttentionConfig(num_heads=1).check(7)
    AttentionConfig().check(512)


def test_positions_matter_only_with_rope():
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
    for theta, same in [(None, True), (1e4, False)]:
        module = AttentionConfig(num_heads=2).build(8, Layout(6), 0, theta)
        assert torch.allclose(module(x.flip(1)), module(x).flip(1), atol=1e-6) == same
