"""RWKV-7 alone: starting values, weight decay, sizes, long sequences, what is refused."""

from __future__ import annotations

import pytest
import torch

from tests.trm.mixers.conformance import HIDDEN, MAZE, SIZES, build, states
from trm.grid import Grid, Layout
from trm.mixers.kernels import rwkv7 as kernel
from trm.mixers.rwkv7 import RWKV7Config

PUBLISHED = Layout(97, Grid(9, 9, (3, 3)))


@pytest.mark.parametrize(("hidden", "heads", "most"), [(512, 8, 0.005), (256, 4, 0.005), (128, 2, 0.02)])
def test_the_default_has_the_parameters_of_attention(hidden, heads, most):
    config = RWKV7Config()
    assert abs(config.num_params(hidden, PUBLISHED) / (4 * hidden**2) - 1) < most
    assert config.num_heads(hidden) == heads


def test_starting_values():
    module = build(RWKV7Config(expand=1.0), hidden=224)
    first, last = module.w0[0].item(), module.w0[-1].item()
    assert first == pytest.approx(-5.5 - 2.5) and last == pytest.approx(0.5 + 2.5)
    assert module.x_r[56].item() == pytest.approx(1 - 0.25**0.2)
    assert module.x_a[112].item() == pytest.approx(1 - 0.5**0.9)
    torch.testing.assert_close(module.g2 @ module.g2.T, 0.01 * torch.eye(len(module.g2)))  # orthogonal
    bound = 224**-0.5
    assert 0.45 * bound < module.receptance.weight.abs().max() <= 0.5 * bound
    assert 0.045 * bound < module.key.weight.abs().max() <= 0.05 * bound
    gained = build(RWKV7Config(expand=1.0, out_gain=3.0), hidden=224)
    torch.testing.assert_close(gained.output.weight, 3 * module.output.weight)


def test_weight_decay_is_for_matrices_that_the_authors_decay():
    module = build(RWKV7Config(**SIZES["rwkv7"]))
    decayed = {n for n, p in module.named_parameters() if not getattr(p, "_no_weight_decay", False)}
    assert decayed == {"receptance.weight", "key.weight", "value.weight", "output.weight"}


@pytest.mark.parametrize("scan_index", [0, 1])
def test_the_token_shift_sees_the_token_before_as_it_is_read(scan_index):
    """Of a mixer without a state: k is 0, and so is what it writes; only r k r_k, of one token, is left."""
    module = build(RWKV7Config(**SIZES["rwkv7"]), scan_index=scan_index)
    with torch.no_grad():
        module.ln_weight.zero_()
    x = states(1, 9, HIDDEN)
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x[None])[0].sum(-1), x[0])
    sees = jacobian.abs().sum(-1) > 0
    nearest = torch.eye(9).bool() | torch.diag(torch.ones(8), -1 if scan_index == 0 else 1).bool()
    assert torch.equal(sees, nearest)


@pytest.mark.parametrize("direction", ["forward", "bidirectional_tied"])
def test_long_sequences_go_in_chunks(direction, monkeypatch):
    fields = {"direction": direction, "order": ("row", "column")}
    module = build(RWKV7Config(**SIZES["rwkv7"], **fields), layout=MAZE)
    x, sizes, solve = states(1, MAZE.seq_len, HIDDEN), [], kernel.solve_unit_lower
    monkeypatch.setattr(
        kernel, "solve_unit_lower", lambda a, right: sizes.append(len(a.mT[0, 0, 0])) or solve(a, right)
    )
    y = module(x)
    assert set(sizes) == {64}
    monkeypatch.setattr(kernel, "CHUNK_SIZE", 32)
    torch.testing.assert_close(module(x), y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_size": 48}, "head_size is 48, which does not divide the 448 channels .* give one of 1, 2, 4"),
        ({"expand": 0.9}, "expand x model.hidden_size must be a whole number .* give an expand such as"),
        ({"order": ("row", "column", "box")}, "3 entries, which do not divide the 8 heads"),
        ({"rank_g": 449}, "model.mixer.rank_g is 449, .* 448 channels .*: give 1 to 448"),
    ],
)
def test_sizes_that_do_not_come_out_even_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RWKV7Config(**fields).check(512)
