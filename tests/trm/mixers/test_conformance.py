"""What every mixer must hold to, in each direction and order, and side by side; a new kind is tested by being
in MIXERS."""

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

from tests.trm.mixers.reference import relative_error  # and the formula of the scan, for torch's counter
from trm.grid import Grid, Layout
from trm.mixers import MIXERS, AnyMixerConfig, MixerConfig
from trm.mixers.hybrids import ParallelConfig

HIDDEN = 16
LAYOUT = Layout(9, Grid(2, 4, (2, 2)))  # one slot before the board
SMALL = {"attention": {"num_heads": 2}, "mamba": {"d_state": 4}, "mamba2": {"d_state": 4, "headdim": 4}}
DIRECTIONS = ("forward", "alternating", "bidirectional_tied", "bidirectional", "bidirectional_own")
ORDERS = ("column", "box", ("row", "column"))


def small_configs() -> dict[str, MixerConfig]:
    """Every mixer at a size for tests; those with directions in each of them, and in each order."""
    configs: dict[str, MixerConfig] = {}
    for kind, cls in MIXERS.items():
        fields = SMALL.get(kind, {})
        if "direction" not in cls.model_fields:
            configs[kind] = cls(**fields)
            continue
        for direction in DIRECTIONS:
            configs[f"{kind}-{direction}"] = cls(direction=direction, **fields)
        for order in ORDERS:
            wide = fields | {"expand": 1.5, "order": order}  # 24 channels, 6 heads
            configs[f"{kind}-{'+'.join([order] if isinstance(order, str) else order)}"] = cls(**wide)
    mamba2 = MIXERS["mamba2"]
    fields = SMALL["mamba2"] | {"expand": 1.5}
    configs["mamba2-quasiseparable"] = mamba2(direction="quasiseparable", d_conv=7, **SMALL["mamba2"])
    for direction in ("bidirectional_own", "quasiseparable"):
        both = {"direction": direction, "order": ("column", "box"), "ngroups": 2}
        configs[f"mamba2-{direction}-column+box"] = mamba2(**both, **fields)
    configs["mamba2-d_conv=1"] = mamba2(d_conv=1, **SMALL["mamba2"])
    configs["attention-head_dim"] = MIXERS["attention"](num_heads=1, head_dim=6)
    scan = {"kind": "mamba2", "expand": 1.0, "direction": "forward"} | SMALL["mamba2"]
    heads = {"kind": "attention", "num_heads": 2, "head_dim": 4}
    configs["parallel"] = ParallelConfig(mixers=(heads, scan, {"kind": "mamba", "order": "column"}))
    configs["parallel-scans"] = ParallelConfig(mixers=(scan, scan))
    return configs


CONFIGS = small_configs()


def build(
    config: MixerConfig, hidden: int = HIDDEN, layout: Layout = LAYOUT, scan_index: int = 0, seed: int = 0
) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return config.build(hidden, layout, scan_index, 10000.0)


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


@given(hidden=st.sampled_from([16, 32, 48]), layout=grids(st.integers(1, 10)))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", CONFIGS)
def test_num_params_equals_the_count(name, hidden, layout):
    config, module = CONFIGS[name], build(CONFIGS[name], hidden, layout)
    assert config.num_params(hidden, layout) == sum(p.numel() for p in module.parameters())


@given(hidden=st.sampled_from([16, 32]), layout=grids(st.integers(1, 10) | st.integers(41, 50)))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", CONFIGS)
def test_flops_equal_the_flop_counter(name, hidden, layout):
    config, module = CONFIGS[name], build(CONFIGS[name], hidden, layout)
    # The counter does not know the fused attention of the CPU: let it be two matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(states(2, layout.seq_len, hidden))
    assert counter.get_total_flops() == 2 * config.flops(hidden, layout)


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
    assert (gradient[0].norm(dim=-1) > 0).all()


def test_the_check_accepts_what_is_built_here(config):
    config.check(HIDDEN)
    config.check_grid(LAYOUT.grid)


MAZE = Layout(900 + 16, Grid(30, 30))


@pytest.mark.parametrize("direction", [*DIRECTIONS, "quasiseparable"])
def test_long_sequences_go_in_chunks(direction, monkeypatch):
    """A 30 x 30 board, read in rows and columns: no matrix of 916 x 916 is made, and both forms agree."""
    from trm.mixers.kernels import ssd

    fields = {"direction": direction, "order": ("row", "column"), "expand": 1.5}
    module = build(MIXERS["mamba2"](**fields, **SMALL["mamba2"]), layout=MAZE)
    x, lengths, quadratic = states(1, MAZE.seq_len, HIDDEN), [], ssd.quadratic
    monkeypatch.setattr(ssd, "quadratic", lambda u, *a: lengths.append(u.shape[-2]) or quadratic(u, *a))
    y = module(x)
    assert set(lengths) == {64}
    monkeypatch.setattr(ssd, "QUADRATIC_MAX_LEN", 1000)
    torch.testing.assert_close(module(x), y, rtol=1e-4, atol=1e-5)
    assert 916 in lengths
