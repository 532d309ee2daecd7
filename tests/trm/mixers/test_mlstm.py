"""mLSTM alone: starting values, weight decay, sizes, long sequences, what is refused."""

from __future__ import annotations

import pytest
import torch

from tests.trm.mixers.conformance import SIZES, build, check_chunks, states
from trm.grid import Grid, Layout
from trm.mixers.kernels import mlstm as kernel
from trm.mixers.mlstm import MLSTMConfig, block_diagonal

PUBLISHED = Layout(97, Grid(9, 9, (3, 3)))


@pytest.mark.parametrize(("hidden", "most"), [(512, 0.015), (256, 0.04), (128, 0.1)])
def test_the_default_has_the_parameters_of_attention(hidden, most):
    config = MLSTMConfig()
    config.check(hidden)
    assert abs(config.num_params(hidden, PUBLISHED) / (4 * hidden**2) - 1) < most


def test_starting_values():
    module = build(MLSTMConfig(), hidden=256)
    small = (2 / (5 * 256)) ** 0.5
    for weight in (module.in_proj.weight, module.q, module.k, module.v):
        assert weight.std().item() == pytest.approx(small, rel=0.1)
    assert module.fgate_bias.tolist() == [3, 4, 5, 6]
    assert not module.igate.weight.any() and not module.fgate.weight.any()
    assert 0 < module.igate_bias.abs().max() < 0.5
    gained = build(MLSTMConfig(out_gain=3.0), hidden=256)
    torch.testing.assert_close(gained.out_proj.weight, 3 * module.out_proj.weight)


def test_weight_decay_spares_biases_of_gates_the_norm_and_the_skip():
    module = build(MLSTMConfig(**SIZES["mlstm"]))
    spared = {n for n, p in module.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert spared == {"igate_bias", "fgate_bias", "norm_weight", "skip"}


def test_block_diagonal():
    x, weight = states(2, 3, 12), states(3, 4, 4, seed=2)
    torch.testing.assert_close(block_diagonal(x, weight), x @ torch.block_diag(*weight).T)


@pytest.mark.parametrize("direction", ["forward", "bidirectional_tied"])
def test_long_sequences_go_in_chunks(direction, monkeypatch):
    fields = {"direction": direction, "order": ("row", "column")}
    check_chunks(MLSTMConfig(**SIZES["mlstm"], **fields), kernel, monkeypatch, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"num_heads": 5},
            "num_heads is 5, which does not divide the 672 channels .* give one of 1, 2, 3, 4",
        ),
        ({"qkv_block_size": 5}, "qkv_block_size is 5, which does not divide the 672 channels"),
        ({"expand": 1.3}, "expand x model.hidden_size must be a whole number"),
        ({"order": ("row", "column", "box")}, "3 entries, which do not divide the 4 heads"),
    ],
)
def test_sizes_that_do_not_come_out_even_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MLSTMConfig(**fields).check(512)


def test_the_expand_that_a_refusal_names_fits() -> None:
    """Of a narrow network, where both keys are refused, one after the other."""
    for config in (MLSTMConfig(), MLSTMConfig(num_heads=2)):
        with pytest.raises(
            ValueError, match=r"does not divide the 126 channels .*, or expand ([\d.]+)$"
        ) as error:
            config.check(96)
        named = float(str(error.value).rpartition(" ")[2])
        config.model_copy(update={"expand": named}).check(96)
