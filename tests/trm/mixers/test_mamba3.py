"""Mamba-3 alone: starting values, the output's scale, sizes, long sequences, what is refused."""

from __future__ import annotations

import pytest
import torch

from tests.trm.mixers.conformance import HIDDEN, SIZES, build, check_chunks, states
from trm.grid import Grid, Layout
from trm.layers import DT_MAX, DT_MIN
from trm.mixers.kernels import ssd
from trm.mixers.mamba3 import Mamba3Config

PUBLISHED = Layout(97, Grid(9, 9, (3, 3)))


@pytest.mark.parametrize(("hidden", "most"), [(512, 0.015), (256, 0.03), (128, 0.1)])
def test_the_default_has_the_parameters_of_attention(hidden, most):
    config = Mamba3Config()
    config.check(hidden)
    assert abs(config.num_params(hidden, PUBLISHED) / (4 * hidden**2) - 1) < most


def test_starting_values_and_weight_decay():
    module = build(Mamba3Config(), hidden=128)
    dt = torch.nn.functional.softplus(module.dt_bias)
    assert dt.min() >= DT_MIN * 0.99 and dt.max() <= DT_MAX * 1.01
    spared = {n for n, p in module.named_parameters() if getattr(p, "_no_weight_decay", False)}
    ones = {"B_bias", "C_bias", "B_norm", "C_norm", "D", "norm_weight"}
    assert spared == ones | {"dt_bias"}
    assert all((module.get_parameter(name) == 1).all() for name in ones)
    gained = build(Mamba3Config(out_gain=3.0), hidden=128)
    torch.testing.assert_close(gained.out_proj.weight, 3 * module.out_proj.weight)


def test_without_the_output_norm_a_new_mixer_is_loud():
    x = states(4, 81, 128)
    loud, normed = (
        build(Mamba3Config(output_norm=norm), hidden=128)(x).square().mean().sqrt() for norm in (False, True)
    )
    assert loud > 5 * normed and 0.3 < normed < 1.5


def test_a_row_of_zeros_has_a_gradient_for_the_decay():
    """A token of zeros, as the puzzle embedding's slots are at first, is at the kink of A's function."""
    module = build(Mamba3Config(**SIZES["mamba3"]))
    x = states(1, 9, HIDDEN)
    x[:, 4] = 0
    x.requires_grad_()
    module(x).square().sum().backward()
    at_zero = module.double(), x.detach().double()
    sizes = module.sizes
    row = 2 * module.inner + sum(sizes[:3])  # the first head's A
    direction = torch.zeros(1, 9, HIDDEN, dtype=torch.float64)
    direction[:, 4] = module.in_proj.weight[row] * 1e-5
    with torch.no_grad():
        up, down = (at_zero[0](at_zero[1] + s * direction).square().sum() for s in (1, -1))
    torch.testing.assert_close(
        ((up - down) / 2).float(), (x.grad * direction.float()).sum(), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("direction", ["forward", "bidirectional_tied", "bidirectional"])
def test_long_sequences_go_in_chunks(direction, monkeypatch):
    fields = {"direction": direction, "order": ("row", "column")}
    check_chunks(Mamba3Config(**SIZES["mamba3"], **fields), ssd, monkeypatch)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"headdim": 48}, "headdim is 48, which does not divide the 640 channels .* give one of 1, 2, 4"),
        ({"ngroups": 3}, "ngroups is 3, which does not divide the 8 heads: give one of 1, 2, 4, 8"),
        ({"expand": 1.3}, "expand x model.hidden_size must be a whole number"),
        ({"d_state": 6}, "must be even, but 6 x 0.5 = 3: give .* rope_fraction such as 0.666667"),
        ({"d_state": 7, "rope_fraction": 1.0}, "must be even, but 7 x 1.0 = 7: give "),
        ({"rope_fraction": 0.01}, "must be even, but 32 x 0.01 = 0.32: give .* rope_fraction such as 0.0625"),
        ({"order": ("row", "column", "box")}, "3 entries, which do not divide the 8 heads"),
        ({"ngroups": 8, "headdim": 5, "order": ("row",) * 16}, "ngroups is 8, but heads that share B and C"),
    ],
)
def test_sizes_that_do_not_come_out_even_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Mamba3Config(**fields).check(512)


@pytest.mark.parametrize(("d_state", "fraction"), [(6, 0.5), (14, 0.5), (7, 1.0), (3, 1.0), (10, 0.01)])
def test_the_share_that_a_message_gives_is_accepted(d_state: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="must be even") as refused:
        Mamba3Config(d_state=d_state, rope_fraction=fraction).check(512)
    advised = float(str(refused.value).rpartition(" ")[2])
    Mamba3Config(d_state=d_state + d_state % 2, rope_fraction=advised).check(512)
