"""What every registered mixer must hold to; a new one is tested by being in MIXERS."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.trm.mixers.reference import relative_error
from trm.layers import RotaryEmbedding
from trm.mixers import MIXERS, AnyMixerConfig, MixerConfig

HIDDEN, LENGTH = 16, 9
SMALL = {"attention": {"num_heads": 2}, "mamba": {"d_state": 4}, "mamba2": {"d_state": 4, "headdim": 4}}


def small_configs() -> dict[str, MixerConfig]:
    """Every mixer at a size for tests; those with a direction in each of the three."""
    configs = {}
    for kind, cls in MIXERS.items():
        fields = SMALL.get(kind, {})
        if "direction" in cls.model_fields:
            for direction in ("forward", "bidirectional", "alternating"):
                configs[f"{kind}-{direction}"] = cls(direction=direction, **fields)
        else:
            configs[kind] = cls(**fields)
    return configs


CONFIGS = small_configs()


def build(
    config: MixerConfig, hidden: int = HIDDEN, length: int = LENGTH, layer_idx: int = 0, seed: int = 0
) -> nn.Module:
    heads = getattr(config, "num_heads", None)
    rope = RotaryEmbedding(hidden // heads, length) if config.uses_rope else None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return config.build(hidden, length, layer_idx, rope)


def states(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def config(request) -> MixerConfig:
    return request.param


def test_every_mixer_is_registered_under_its_kind():
    for kind, cls in MIXERS.items():
        assert cls().kind == kind


@pytest.mark.parametrize("batch", [1, 3])
def test_shape_is_preserved_and_everything_has_a_finite_gradient(config, batch):
    for layer_idx in (0, 1):
        module = build(config, layer_idx=layer_idx)
        x = states(batch, LENGTH, HIDDEN).requires_grad_()
        y = module(x)
        assert y.shape == x.shape and y.dtype == x.dtype
        (y * states(batch, LENGTH, HIDDEN, seed=2)).sum().backward()
        for name, tensor in [("input", x), *module.named_parameters()]:
            assert tensor.grad is not None, f"{name} has no gradient"
            assert tensor.grad.isfinite().all(), f"the gradient of {name} is not finite"
            assert tensor.grad.abs().max() > 0, f"the gradient of {name} is zero"


def test_gradients_equal_finite_differences_in_float64(config):
    module = build(config, layer_idx=1).double()
    names = [name for name, _ in module.named_parameters()]
    weights = [p.detach().requires_grad_() for p in module.parameters()]
    x = states(2, LENGTH, HIDDEN, dtype=torch.float64).requires_grad_()

    def apply(x: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, weights, strict=True)), x)

    assert torch.autograd.gradcheck(apply, (x, *weights), fast_mode=True)


def test_rows_of_a_batch_do_not_mix(config):
    module = build(config)
    x = states(3, LENGTH, HIDDEN).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[0].square().sum(), x)
    assert gradient[0].abs().max() > 0 and not gradient[1:].any()
    changed = x.detach().clone()
    changed[1] = 100.0
    torch.testing.assert_close(module(changed)[0], module(x)[0], rtol=1e-6, atol=1e-6)


def test_bfloat16_is_close_to_float32(config):
    module = build(config)
    rounded = states(4, LENGTH, HIDDEN).bfloat16()
    dy = states(4, LENGTH, HIDDEN, seed=2)
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


def test_state_dict_round_trip(config):
    x = states(2, LENGTH, HIDDEN)
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
    effective = config.effective(HIDDEN, LENGTH, 2)
    assert json.loads(json.dumps(effective)) == effective
    assert effective["kind"] == config.kind


@given(hidden=st.sampled_from([16, 32, 48]), length=st.integers(1, 40))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", CONFIGS)
def test_num_params_equals_the_count(name, hidden, length):
    config, module = CONFIGS[name], build(CONFIGS[name], hidden, length)
    assert config.num_params(hidden, length) == sum(p.numel() for p in module.parameters())


@given(hidden=st.sampled_from([16, 32]), length=st.integers(1, 40) | st.integers(161, 200))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", CONFIGS)
def test_flops_equal_the_flop_counter(name, hidden, length):
    config, module = CONFIGS[name], build(CONFIGS[name], hidden, length)
    # The counter does not know the fused attention of the CPU: let it be two matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(states(2, length, hidden))
    assert counter.get_total_flops() == 2 * config.flops(hidden, length)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_halting_head_reads_a_position_that_sees_every_token(config, num_layers):
    layers = [build(config, layer_idx=i, seed=i) for i in range(num_layers)]
    x = states(1, LENGTH, HIDDEN).requires_grad_()
    h = x
    for layer in layers:
        h = h + layer(h)
    readout = config.readout(num_layers)
    read = {"first": h[0, 0], "last": h[0, -1]}[readout]
    (gradient,) = torch.autograd.grad(read.square().sum(), x)
    assert (gradient[0].norm(dim=-1) > 0).all()


def test_the_check_accepts_what_is_built_here(config):
    config.check(HIDDEN)
