"""What every mixer must hold to, in each direction and order, and side by side; a new kind is tested by being
in MIXERS."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.func import functional_call

from tests.trm.mixers.conformance import (
    HIDDEN,
    LAYOUT,
    accepts,
    build,
    check_effective,
    check_flops,
    check_layers_alternate,
    check_num_params,
    directions_and_orders,
    small_configs,
    states,
)
from tests.trm.mixers.reference import relative_error
from trm.config import TrialConfig
from trm.grid import Grid, Layout
from trm.mixers import MIXERS, AnyMixerConfig, MixerConfig
from trm.mixers.hybrids import ParallelConfig
from trm.settings.messages import explain

SCAN = {"kind": "mamba2", "expand": 1.0, "direction": "forward", "d_state": 4, "headdim": 4}
HEADS = {"kind": "attention", "num_heads": 2, "head_dim": 4}
BASES: dict[str, MixerConfig] = {
    **small_configs(),
    "parallel": ParallelConfig(mixers=(HEADS, SCAN, {"kind": "mamba", "order": "column"})),
    "parallel-scans": ParallelConfig(mixers=(SCAN, SCAN)),
}
CONFIGS = BASES | directions_and_orders()
ALTERNATING = {
    name: each for name, each in CONFIGS.items() if getattr(each, "direction", None) == "alternating"
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def config(request) -> MixerConfig:
    return request.param


def test_every_mixer_is_registered_under_its_kind():
    for kind, cls in MIXERS.items():
        assert cls().kind == kind


@pytest.mark.parametrize("batch", [1, 3])
def test_shape_is_preserved_and_everything_has_a_finite_gradient(config, batch):
    for scan_index in (0, 1):
        module = build(config, scan_index=scan_index)
        x = states(batch, LAYOUT.seq_len, HIDDEN).requires_grad_()
        y = module(x)
        assert y.shape == x.shape and y.dtype == x.dtype
        (y * states(*x.shape, seed=2)).sum().backward()
        for name, tensor in [("input", x), *module.named_parameters()]:
            assert tensor.grad is not None, f"{name} has no gradient"
            assert tensor.grad.isfinite().all(), f"the gradient of {name} is not finite"
            assert tensor.grad.abs().max() > 0, f"the gradient of {name} is zero"


def test_gradients_equal_finite_differences_in_float64(config):
    module = build(config, scan_index=1).double()
    names = [name for name, _ in module.named_parameters()]
    weights = [p.detach().requires_grad_() for p in module.parameters()]
    x = states(2, LAYOUT.seq_len, HIDDEN, dtype=torch.float64).requires_grad_()

    def apply(x: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, weights, strict=True)), x)

    assert torch.autograd.gradcheck(apply, (x, *weights), fast_mode=True)


def test_rows_of_a_batch_do_not_mix(config):
    module = build(config)
    x = states(3, LAYOUT.seq_len, HIDDEN).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[0].square().sum(), x)
    assert gradient[0].abs().max() > 0 and not gradient[1:].any()
    changed = x.detach().clone()
    changed[1] = 100.0
    torch.testing.assert_close(module(changed)[0], module(x)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("config", small_configs().values(), ids=small_configs().keys())
def test_the_output_starts_at_the_given_share(config):
    quiet, loud = (build(type(config)(**config.model_dump() | {"out_gain": gain})) for gain in (0.1, 1.0))
    x = states(2, LAYOUT.seq_len, HIDDEN)
    torch.testing.assert_close(quiet(x), 0.1 * loud(x))


@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("gain", [0.0, -0.5])
def test_a_share_of_nothing_is_refused(kind, gain):
    with pytest.raises(ValidationError) as refused:
        TrialConfig.model_validate({"model": {"mixer": {"kind": kind, "out_gain": gain}}})
    message = explain(refused.value, TrialConfig, "space.yaml")
    assert message == f"space.yaml: model.mixer.out_gain: must be greater than 0 (given {gain})"


def test_bfloat16_is_close_to_float32(config):
    module = build(config)
    rounded = states(4, LAYOUT.seq_len, HIDDEN).bfloat16()
    dy = states(*rounded.shape, seed=2)
    results = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = rounded.to(dtype).requires_grad_()
        y = module(x)
        assert y.dtype == dtype
        gradients = torch.autograd.grad((y * dy).sum(), [x, *module.parameters()])
        results[dtype] = [y, *gradients]
    names = ["output", "input", *(name for name, _ in module.named_parameters())]
    for name, exact, low in zip(names, *results.values(), strict=True):
        assert relative_error(low, exact) < (0.02 if name == "output" else 0.05), name


def test_equal_seeds_give_equal_weights(config):
    first, second, other = (build(config, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_equal_weights_give_equal_bits(config):
    results = []
    for _ in range(2):
        module, x = build(config), states(2, LAYOUT.seq_len, HIDDEN)
        y = module(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [*module.parameters()])])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_state_dict_round_trip(config):
    x = states(2, LAYOUT.seq_len, HIDDEN)
    source, target = build(config, seed=0), build(config, seed=1)
    assert not torch.equal(source(x), target(x))
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(x), target(x))
    assert set(source.state_dict()) == {name for name, _ in source.named_parameters()}


def test_config_round_trip(config):
    adapter = TypeAdapter(AnyMixerConfig)
    assert adapter.validate_python(config.model_dump()) == config
    assert adapter.validate_json(config.model_dump_json()) == config


def test_effective_is_json_and_names_the_kind(config):
    effective = config.effective(HIDDEN, LAYOUT, 2)
    assert json.loads(json.dumps(effective)) == effective
    assert [[mixer["kind"] for mixer in layer] for layer in effective] == [[config.kind]] * 2


def grids(draw_from: st.SearchStrategy[int]) -> st.SearchStrategy[Layout]:
    """Boards with boxes, behind some slots."""
    return st.builds(
        lambda bands, slots: Layout(4 * bands + slots, Grid(2 * bands, 2, (2, 1))),
        draw_from,
        st.integers(0, 3),
    )


@pytest.mark.parametrize("config", BASES.values(), ids=BASES.keys())
def test_effective_configs_are_equal_where_the_function_is(config):
    check_effective(config)


@pytest.mark.parametrize("config", ALTERNATING.values(), ids=ALTERNATING.keys())
def test_alternating_layers_differ(config):
    check_layers_alternate(config)


@given(hidden=st.sampled_from([16, 32, 48]), layout=grids(st.integers(1, 10)))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", CONFIGS)
def test_num_params_equals_the_count(name, hidden, layout):
    check_num_params(CONFIGS[name], hidden if accepts(CONFIGS[name], hidden) else HIDDEN, layout)


@given(hidden=st.sampled_from([16, 32]), layout=grids(st.integers(1, 10) | st.integers(41, 50)))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", CONFIGS)
def test_flops_equal_the_flop_counter(name, hidden, layout):
    check_flops(CONFIGS[name], hidden if accepts(CONFIGS[name], hidden) else HIDDEN, layout)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_halting_head_reads_a_position_that_sees_every_token(config, num_layers):
    layers = [
        build(m, scan_index=scan_index, seed=scan_index) for ((m, scan_index),) in config.layers(num_layers)
    ]
    x = states(1, LAYOUT.seq_len, HIDDEN).requires_grad_()
    h = x
    for layer in layers:
        h = h + layer(h)
    halting_position = config.halting_position(num_layers)
    read = {"first": h[0, 0], "last": h[0, -1]}[halting_position]
    (gradient,) = torch.autograd.grad(read.square().sum(), x)
    unseen = [token for token, norm in enumerate(gradient[0].norm(dim=-1).tolist()) if not norm]
    assert not unseen, (
        f"the {halting_position} token, which the halting head reads, sees nothing of tokens {unseen} after "
        f"{num_layers} layers: let the mixer reach every token, or correct reversals()"
    )


def test_the_check_accepts_what_is_built_here(config):
    assert accepts(config)
