"""The gated delta rule as matrix products equals the loop over tokens, with all gradients; hard gates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.trm.mixers.delta_loop import delta_loop
from tests.trm.mixers.reference import gradients, relative_error
from trm.mixers.kernels import delta
from trm.mixers.kernels.decayed import decayed_products
from trm.mixers.kernels.delta import QUADRATIC_MAX_LEN, delta_rule

NAMES = ("y", "q", "k", "v", "log_decay", "beta")


def inputs_of(
    length: int, heads: int = 2, groups: int = 2, K: int = 6, V: int = 5, decays: int = 6, seed: int = 0
) -> tuple[list[Tensor], Tensor]:
    """q, k, v, log_decay, beta and dy in float64; moderate gates."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, length, *shape, generator=generator, dtype=torch.float64)

    q, k = (F.normalize(normal(groups, K), dim=-1) for _ in range(2))
    inputs = [q, k, normal(heads, V), -F.softplus(normal(heads, decays)), normal(heads).sigmoid()]
    return inputs, normal(heads, V)


def errors(inputs: list[Tensor], dy: Tensor, dtype: torch.dtype, chunk_size: int = 64) -> dict[str, float]:
    """Of y and of each gradient, against the loop in float64 from the same rounded inputs."""
    rounded = [x.to(dtype) for x in inputs]
    found = gradients(delta_rule, rounded, dy, chunk_size=chunk_size)
    expected = gradients(delta_loop, [x.double() for x in rounded], dy)
    assert all(x.isfinite().all() for x in found)
    return {name: relative_error(x, y) for name, x, y in zip(NAMES, found, expected, strict=True)}


@given(
    length=st.integers(1, 40) | st.sampled_from([QUADRATIC_MAX_LEN, QUADRATIC_MAX_LEN + 1, 200]),
    K=st.integers(1, 7),
    V=st.integers(1, 7),
    ratio=st.integers(1, 3),
    per_channel=st.booleans(),
    chunk_size=st.sampled_from([1, 7, 64, 300]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_loop_in_float64(length, K, V, ratio, per_channel, chunk_size, seed):
    ratio, decays = (1, K) if per_channel else (ratio, 1)
    inputs, dy = inputs_of(length, 2 * ratio, 2, K, V, decays, seed)
    found = gradients(delta_rule, inputs, dy, chunk_size=chunk_size)
    for name, x, y in zip(NAMES, found, gradients(delta_loop, inputs, dy), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-10, msg=name)


def strong(case: str, decays: int, length: int) -> tuple[list[Tensor], Tensor]:
    inputs, dy = inputs_of(length, decays=decays)
    q, k, v, log_decay, beta = inputs
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(log_decay.shape, generator=generator, dtype=torch.float64)
    if case == "strong decays":
        log_decay = -90 * uniform
    elif case == "resets":  # a token forgets all, and those around it nearly nothing
        log_decay = torch.where(uniform < 0.1, -120.0, -1e-3 * uniform)
    elif case == "fast and slow channels":
        log_decay = torch.where(uniform < 0.5, -40.0, -1e-4)
    elif case == "no decay":
        log_decay = torch.zeros_like(log_decay)
    elif case == "beta near 2 at repeated keys":
        k = k[:, :1].expand_as(k) + 0.01 * k
        k, beta, log_decay = F.normalize(k, dim=-1), 2 - 1e-3 * beta, 1e-3 * log_decay
    return [q, k, v, log_decay, beta], dy


CASES = ("strong decays", "resets", "fast and slow channels", "no decay", "beta near 2 at repeated keys")


@pytest.mark.parametrize("length", [97, 200])
@pytest.mark.parametrize("decays", [1, 6])
@pytest.mark.parametrize("case", CASES)
def test_hard_gates_in_float32(case, decays, length):
    inputs, dy = strong(case, decays, length)
    found = errors(inputs, dy, torch.float32)
    # Each write turns nearly the whole memory over, so that rounding grows with the tokens.
    is_ill_conditioned = case == "beta near 2 at repeated keys"
    assert all(error < (4e-5 if is_ill_conditioned else 4e-6) for error in found.values()), found


@pytest.mark.parametrize("decays", [1, 6])
def test_bfloat16_products_are_close(decays):
    inputs, dy = inputs_of(60, decays=decays)
    q, k, v, log_decay, beta = inputs
    low = [q.bfloat16(), k.bfloat16(), v.bfloat16(), log_decay.float(), beta.float()]
    found = gradients(delta_rule, low, dy, chunk_size=64)
    assert found[0].dtype == torch.bfloat16
    expected = gradients(delta_loop, [x.double() for x in low], dy)
    for name, x, y in zip(NAMES, found, expected, strict=True):
        assert relative_error(x, y) < 0.02, name


@pytest.mark.parametrize("decays", [1, 6])
def test_nearly_a_thousand_tokens(decays):
    inputs, dy = inputs_of(900, heads=1, groups=1, decays=decays)
    inputs[3] = inputs[3] / 50  # a memory longer than a chunk
    assert all(error < 1e-5 for error in errors(inputs, dy, torch.float32).values())


@given(length=st.integers(1, 70), K=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_products_over_decaying_channels(length, K, seed):
    (q, k, _, g, _), _ = inputs_of(length, K=K, decays=K, seed=seed)
    c = g.transpose(1, 2).cumsum(-2)
    q, k, g = (x.transpose(1, 2) for x in (q, k, g))
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = (c[..., :, None, :] - c[..., None, :, :]).masked_fill(later[..., None], -torch.inf).exp()
    reads, writes = decayed_products(q, k, g)
    torch.testing.assert_close(reads, torch.einsum("bhik,bhjk,bhijk->bhij", q, k, weights))
    expected = torch.einsum("bhik,bhjk,bhijk->bhij", k, k, weights).tril(-1)
    torch.testing.assert_close(writes, expected)


def test_gradient_check_of_the_products():
    generator = torch.Generator().manual_seed(0)
    q, k, g = (torch.randn(2, 11, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    inputs = [x.requires_grad_() for x in (q, k, -g.abs())]
    assert torch.autograd.gradcheck(decayed_products, inputs)


@pytest.mark.parametrize("length", [1, 13, QUADRATIC_MAX_LEN, QUADRATIC_MAX_LEN + 1, 200])
@pytest.mark.parametrize(("groups", "decays"), [(2, 1), (4, 1), (4, 6)])
def test_flops_are_those_of_the_products(length, groups, decays):
    (inputs, _), sizes = inputs_of(length, 4, groups, decays=decays), (length, 4, groups, 6, 5, decays, 64)
    with FlopCounterMode(display=False) as counter:
        delta_rule(*inputs, chunk_size=64)
    assert counter.get_total_flops() == 2 * delta.flops(delta.Sizes(*sizes))  # of two rows


def test_a_column_solved_for_costs_what_is_below_the_diagonal():
    sizes: dict[str, Any] = {"heads": 3, "key_heads": 3, "K": 6, "V": 5, "decays": 1, "chunk_size": 64}
    assert delta.solve_flops(delta.Sizes(seq_len=100, **sizes)) == 3 * (100 * 99) * 5
    assert delta.solve_flops(delta.Sizes(seq_len=200, **sizes)) == 4 * 3 * (64 * 63) * (6 + 5)
