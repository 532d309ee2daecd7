"""RWKV-7, mLSTM and Mamba-3: every form equals the loop over the tokens, with extreme gates too."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.mixers.recurrences import (
    mamba3_inputs,
    mamba3_loop,
    mlstm_inputs,
    mlstm_loop,
    rwkv7_inputs,
    rwkv7_loop,
)
from tests.trm.mixers.reference import gradients, relative_error
from trm.mixers.kernels import mamba3, mlstm, rwkv7, ssd

CORES = {
    "rwkv7": (rwkv7.rwkv7, rwkv7_loop, rwkv7_inputs),
    "mlstm": (mlstm.mlstm, mlstm_loop, mlstm_inputs),
    "mamba3": (mamba3.mamba3, mamba3_loop, mamba3_inputs),
}
GATES = {
    "rwkv7": ("mixed", "bound"),
    "mlstm": ("mixed", "resets", "open"),
    "mamba3": ("mixed", "fast", "either"),
}
BOUNDS = {  # of relative errors in float32, where 1e-5 is too small
    ("mlstm", "resets"): 1e-4,  # of the forget gates, whose gradients nearly vanish; of the rest 2e-6
    # One token outweighs all others: the normaliser passes through zero with its q.k.
    ("mlstm", "open"): 2e-3,
}
EXTREME = [(name, gates) for name, all_gates in GATES.items() for gates in all_gates]


def both(name, inputs, dtype=torch.float64):
    """y and the gradients, computed in `dtype`, and those of the loop in float64."""
    return of(CORES[name][0], name, inputs, dtype), loops(name, inputs, torch.float64)


def loops(name, inputs, dtype):
    return of(CORES[name][1], name, inputs, dtype)


def of(form, name, inputs, dtype):
    values = list(inputs.values())
    shape = CORES[name][1](*values).shape
    dy = torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return gradients(form, [v.to(dtype) for v in values], dy.to(dtype))


@pytest.mark.parametrize("name", CORES)
@given(
    length=st.sampled_from([1, 2, 5, 17]) | st.integers(1, 30),
    heads=st.integers(1, 3),
    channels=st.integers(2, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_short_sequences_equal_the_loop_with_their_gradients(name, length, heads, channels, seed):
    computed, expected = both(name, CORES[name][2](length, heads, channels, seed))
    for one, other in zip(computed, expected, strict=True):
        torch.testing.assert_close(one, other)


@given(groups=st.integers(1, 3), per_group=st.integers(1, 2), pairs=st.integers(1, 3), rest=st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_groups_of_heads_and_turned_pairs(groups, per_group, pairs, rest):
    sizes = {"heads": groups * per_group, "groups": groups, "d_state": 2 * pairs + rest, "pairs": pairs}
    computed, expected = both("mamba3", mamba3_inputs(7, **sizes))
    for one, other in zip(computed, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("length", [129, 200])
@pytest.mark.parametrize("name", CORES)
def test_long_sequences_equal_the_loop_with_their_gradients(name, length):
    """The last chunk is not full."""
    computed, expected = both(name, CORES[name][2](length))
    for one, other in zip(computed, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CORES)
def test_900_tokens_go_in_chunks(name, monkeypatch):
    """No matrix of 900 x 900 is made."""
    core, loop, inputs_of = CORES[name]
    values = [v.float() for v in inputs_of(900, heads=1).values()]
    largest = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: largest.append(max(a.shape[-2:])) or product(a, b)
    )
    y = core(*values)
    assert 0 < max(largest) <= 128
    assert relative_error(y, loop(*(v.double() for v in values))) < 1e-5


@pytest.mark.parametrize("length", [97, 200])
@pytest.mark.parametrize(("name", "gates"), EXTREME)
def test_float32_keeps_its_digits_where_gates_are_extreme(name, gates, length):
    """float32's prefix sums, or exponentials taken before the mask, are off by far more, or not finite.

    What the loop itself loses in float32 depends on the processor: some gradients cancel nearly all digits.
    """
    inputs = CORES[name][2](length, gates=gates)
    computed, expected = both(name, inputs, torch.float32)
    for one, other, exact in zip(computed, loops(name, inputs, torch.float32), expected, strict=True):
        bound = max(BOUNDS.get((name, gates), 1e-5), relative_error(other, exact))
        assert relative_error(one, exact) < bound


@pytest.mark.parametrize("length", [24, 200])
def test_closed_input_gates_give_zero_and_finite_gradients(length):
    """exp(-m) overflows here: the authors' form has NaN gradients."""
    computed, _ = both("mlstm", mlstm_inputs(length, gates="closed"), torch.float32)
    assert computed[0].abs().max() < 1e-30
    assert all(each.isfinite().all() for each in computed)


@pytest.mark.parametrize("name", CORES)
def test_a_token_depends_on_no_later_one(name):
    inputs = CORES[name][2](20)
    core, values = CORES[name][0], list(inputs.values())
    changed = [v.clone() for v in values]
    for one, v in zip(changed, values, strict=True):
        if v.ndim > 2:
            one[:, 13:] = v[:, 13:].flip(0)
    before, after = core(*values), core(*changed)
    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=0, atol=1e-12)
    assert (before[:, 13:] - after[:, 13:]).abs().min() > 0


@pytest.mark.parametrize("length", [1, 128, 129, 200])
def test_the_flops_of_rwkv7_and_mlstm_are_those_of_their_products(length):
    from torch.utils.flop_counter import FlopCounterMode

    for name, channels in (("rwkv7", 4), ("mlstm", 5)):
        values = CORES[name][2](length, heads=3, channels=channels).values()
        with FlopCounterMode(display=False) as counter:
            CORES[name][0](*values)
        given = {"rwkv7": rwkv7.flops(length, 3, 4)[0], "mlstm": mlstm.flops(length, 3, 5)}[name]
        assert 2 * given == counter.get_total_flops()  # of two rows


def test_mamba3_takes_the_forms_of_mamba2(monkeypatch):
    used = []
    for name in ("quadratic", "chunked"):
        original = getattr(ssd, name)
        monkeypatch.setattr(ssd, name, lambda *a, f=original, n=name: used.append(n) or f(*a))
    for length in (ssd.QUADRATIC_MAX_LEN, ssd.QUADRATIC_MAX_LEN + 1):
        used.clear()
        mamba3.mamba3(*mamba3_inputs(length).values())
        assert used[0] == ("quadratic" if length == ssd.QUADRATIC_MAX_LEN else "chunked")


def test_turns_are_exact_after_many_revolutions():
    inputs = mamba3_inputs(900, gates="fast")
    theta = mamba3.turns(inputs["angles"].float(), inputs["dt"].float())
    exact = mamba3.turns(inputs["angles"].float().double(), inputs["dt"].float().double())
    assert theta.min() >= 0 and theta.max() <= 2 * torch.pi + 1e-6
    assert (torch.polar(torch.ones_like(exact), exact - theta) - 1).abs().max() < 1e-6
