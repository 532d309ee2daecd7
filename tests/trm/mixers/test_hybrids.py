"""Patterns, sublayers and parallel heads: what stands where, what it weighs, and what is one and the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import ROOT
from trm.block import Block
from trm.config import TrialConfig
from trm.cost import block_flops, num_params
from trm.data.base import TaskShape
from trm.data.sudoku import SudokuConfig
from trm.grid import Grid, Layout
from trm.layers import rms_norm
from trm.mixers.hybrids import ParallelConfig
from trm.model import TRM, build_model
from trm.model_config import ModelConfig
from trm.settings.messages import explain

ATTENTION: dict[str, Any] = {"kind": "attention", "num_heads": 2}
WIDE: dict[str, Any] = {"kind": "attention", "num_heads": 1, "head_dim": 6}
MAMBA2: dict[str, Any] = {"kind": "mamba2", "d_state": 4, "headdim": 4, "expand": 1.0}
FORWARD = MAMBA2 | {"direction": "forward"}
MAMBA: dict[str, Any] = {"kind": "mamba", "d_state": 4, "expand": 1.0, "order": "column"}
PARALLEL: dict[str, Any] = {"kind": "parallel", "mixers": [WIDE, FORWARD]}
LAYOUT = Layout(9, Grid(2, 4, (2, 2)))

HYBRIDS = {
    "pattern": (4, {"kind": "pattern", "mixers": [MAMBA2, ATTENTION]}),
    "pattern of named ones": (2, {"kind": "pattern", "mixers": ["mlp", MAMBA]}),
    "forward pattern": (2, {"kind": "pattern", "mixers": [FORWARD, MAMBA | {"direction": "forward"}]}),
    "sublayers": (1, {"kind": "sublayers", "mixers": [FORWARD, FORWARD, ATTENTION]}),
    "sublayers with mlp": (2, {"kind": "sublayers", "mixers": [FORWARD, "mlp"]}),
    "scans alone": (1, {"kind": "sublayers", "mixers": [FORWARD, FORWARD]}),
    "alternating scans": (1, {"kind": "sublayers", "mixers": [MAMBA2, MAMBA2]}),
    "parallel": (2, PARALLEL),
    "all of them": (
        2,
        {"kind": "pattern", "mixers": [{"kind": "sublayers", "mixers": [PARALLEL, MAMBA2]}, WIDE]},
    ),
}


def model_of(num_layers: int, mixer: dict[str, Any], **changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"hidden_size": 16, "num_layers": num_layers, "mixer": mixer} | changes)


@pytest.fixture(params=HYBRIDS.values(), ids=HYBRIDS.keys())
def model(request) -> ModelConfig:
    return model_of(*request.param)


def block_of(model: ModelConfig, seed: int = 0) -> Block:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Block(model, LAYOUT, model.num_layers)


def states(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_block_has_the_parameters_and_flops_of_the_formula(model):
    config = TrialConfig.model_validate({"model": model.model_dump(), "data": {"task": "sudoku", "size": 4}})
    built = build_model(config, 0, "cpu")
    assert num_params(config) == sum(p.numel() for _, p in built.network_parameters())
    block = block_of(model)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        block(states(0), states(1))
    mixers = [mixer for layer in model.mixer.layers(model.num_layers) for mixer, _ in layer]
    uncounted = sum(mixer.uncounted_flops(16, Layout(9)) for mixer in mixers)
    assert counter.get_total_flops() == 3 * (block_flops(model, Layout(9), model.num_layers) - uncounted)


def test_everything_has_a_gradient_and_rows_do_not_mix(model):
    block, x = block_of(model), states(0).requires_grad_()
    y = block(x, states(1))
    (of_input,) = torch.autograd.grad(y[0].square().sum(), x, retain_graph=True)
    assert of_input[0].any() and not of_input[1:].any()
    (y * states(2)).sum().backward()
    missing = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == [] and all(p.grad.isfinite().all() for p in block.parameters())


def test_bfloat16_is_close_and_equal_seeds_are_equal(model):
    block, same = block_of(model), block_of(model)
    exact = block(states(0), states(1))
    assert torch.equal(exact, same(states(0), states(1)))
    low = block(states(0, torch.bfloat16), states(1, torch.bfloat16))
    assert low.dtype == torch.bfloat16 and (low.float() - exact).norm() / exact.norm() < 0.05


def test_the_halting_head_sees_every_cell(model):
    shape = TaskShape(vocab_size=6, seq_len=8, grid=LAYOUT.grid)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trm = TRM(model.model_copy(update={"puzzle_emb_len": 1, "h_cycles": 1, "l_cycles": 1}), shape)
    torch.nn.init.ones_(trm.q_head.weight)
    seen: list[Tensor] = []
    trm.embed_tokens.register_forward_hook(lambda _m, _a, out: seen.append(out))
    board = torch.ones(2, 8, dtype=torch.uint8)
    _, output = trm.eval()(trm.initial_carry(2, "cpu"), board, board)
    (gradient,) = torch.autograd.grad(output.q_halt_logits.sum(), seen)
    assert gradient.abs().sum(-1).gt(0).all()


@pytest.mark.parametrize(
    ("name", "halting_position"),
    [
        ("forward pattern", "last"),
        ("scans alone", "last"),
        ("alternating scans", "first"),
        ("sublayers", "first"),
    ],
)
def test_readout(name, halting_position):
    num_layers, mixer = HYBRIDS[name]
    assert model_of(num_layers, mixer).mixer.halting_position(num_layers) == halting_position


def test_sublayers_each_have_a_residual_connection_and_a_norm_on_their_own_axis():
    block = block_of(model_of(1, {"kind": "sublayers", "mixers": [FORWARD, "mlp", ATTENTION]}))
    (layer,) = block.layers
    scan, mlp, attention = layer.mixers
    h = states(0) + states(1)
    h = rms_norm(h + scan(h))
    h = rms_norm(h + mlp(h), dim=-2)
    h = rms_norm(h + attention(h))
    torch.testing.assert_close(block(states(0), states(1)), rms_norm(h + layer.mlp(h)))


def test_a_pattern_has_one_mixer_a_layer_over_and_over():
    block = block_of(model_of(4, {"kind": "pattern", "mixers": [MAMBA, ATTENTION]}))
    kinds = [[type(mixer).__name__ for mixer in layer.mixers] for layer in block.layers]
    assert kinds == [["Mamba"], ["Attention"]] * 2
    assert [layer.mixers[0].reversals for layer in block.layers[::2]] == [(False,), (True,)]  # alternates


def test_parallel_is_the_mean_of_normed_and_scaled_mixers():
    config = ParallelConfig(mixers=(WIDE, FORWARD), beta_init=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = config.build(16, LAYOUT, 0, 1e4)
    with torch.no_grad():
        module.betas[1].copy_(torch.arange(16.0))
    x = states(0)
    heads, scan = (rms_norm(mixer(x)) for mixer in module.mixers)
    torch.testing.assert_close(module(x), (0.5 * heads + torch.arange(16.0) * scan) / 2)
    assert all(beta._no_weight_decay for beta in module.betas)


def test_scans_side_by_side_alternate_too():
    parallel = {"kind": "parallel", "mixers": [MAMBA2, ATTENTION, MAMBA2]}
    block = block_of(model_of(2, {"kind": "sublayers", "mixers": [MAMBA2, parallel]}))
    scans = [mixer for layer in block.layers for mixer in layer.modules() if hasattr(mixer, "reversals")]
    assert [scan.reversals for scan in scans] == [(False,), (True,), (False,), (True,), (False,), (True,)]


def test_hymbas_parts_have_the_parameters_of_attention():
    heads = {"kind": "attention", "num_heads": 4, "head_dim": 64}
    parallel = ParallelConfig(mixers=(heads, {"kind": "mamba2", "expand": 0.625, "d_state": 32}))
    assert parallel.num_params(512, Layout(97)) == 1_053_391 + 2 * 512


def test_rotary_tables_fit_each_attentions_heads():
    mixers = [ATTENTION, WIDE, {"kind": "parallel", "mixers": [WIDE, ATTENTION]}]
    for pos_encodings, widths in (("rope", [8, 6, 6, 8]), ("learned", [])):
        block = block_of(model_of(1, {"kind": "sublayers", "mixers": mixers}, pos_encodings=pos_encodings))
        tables = [module.cos for module in block.modules() if hasattr(module, "cos")]
        assert [table.shape for table in tables] == [(9, width) for width in widths]


# arXiv 2602.12078: mamba2, mamba2, attention, SwiGLU, one such stack: 6.86M; TRM's attention: 6.83M.
TWO_SCANS = [{"kind": "mamba2", "d_state": 128, "headdim": 64, "expand": 2.0, "direction": "forward"}] * 2


def test_the_hybrid_of_2602_12078_has_its_published_parameters():
    """Counted there for 12 symbols (ARC); of Sudoku's 11 there are 2 x 512 weights fewer."""
    symbol = 2 * 512
    hybrid = {"num_layers": 1, "mixer": {"kind": "sublayers", "mixers": [*TWO_SCANS, "attention"]}}
    assert num_params(TrialConfig.model_validate({"model": hybrid})) + symbol == 6_860_386
    assert num_params(TrialConfig()) + symbol == 6_829_058


SAME = [
    ((2, "mamba2"), (2, {"kind": "pattern", "mixers": ["mamba2", "mamba2"]})),
    ((2, "attention"), (2, {"kind": "pattern", "mixers": ["attention"]})),
    ((1, "attention"), (1, {"kind": "sublayers", "mixers": ["attention"]})),
    (
        (2, {"kind": "pattern", "mixers": ["mamba2", "attention"]}),
        (2, {"kind": "pattern", "mixers": [{"kind": "mamba2", "direction": "forward"}, "attention"]}),
    ),
    (
        (2, {"kind": "parallel", "mixers": ["attention", "mamba2"]}),
        (2, {"kind": "parallel", "mixers": ["mamba2", "attention"]}),
    ),
    (
        (4, {"kind": "pattern", "mixers": ["mlp", "attention"]}),
        (4, {"kind": "pattern", "mixers": ["mlp", {"kind": "attention", "head_dim": 64}] * 2}),
    ),
]
DIFFERENT = [
    ((2, "mamba2"), (2, {"kind": "sublayers", "mixers": ["mamba2"] * 2})),
    (
        (2, {"kind": "pattern", "mixers": ["mlp", "mamba2"]}),
        (2, {"kind": "pattern", "mixers": ["mamba2", "mlp"]}),
    ),
    ((1, "attention"), (1, {"kind": "parallel", "mixers": ["attention", "attention"]})),
]


@pytest.mark.parametrize(("pair", "equal"), [*((p, True) for p in SAME), *((p, False) for p in DIFFERENT)])
def test_configs_that_build_the_same_network_have_one_effect(pair, equal):
    one, other = (
        TrialConfig.model_validate(
            {"model": {"num_layers": n, "mixer": {"kind": mixer} if isinstance(mixer, str) else mixer}}
        ).effective()
        for n, mixer in pair
    )
    one["model"].pop("num_layers"), other["model"].pop("num_layers")
    assert (one == other) == equal


def refused(mixer: Any, num_layers: int = 2, data: dict[str, Any] | None = None) -> str:
    given = {"model": {"num_layers": num_layers, "mixer": mixer}, "data": data or {}}
    with pytest.raises(ValidationError) as error:
        TrialConfig.model_validate(given)
    return explain(error.value, TrialConfig, "x.yaml")


@pytest.mark.parametrize("kind", ["pattern", "sublayers", "parallel"])
def test_an_unknown_mixer_is_refused_with_the_nearest_one(kind):
    message = refused({"kind": kind, "mixers": ["attention", "mamba4"]})
    assert (
        "x.yaml: model.mixer.mixers.1.kind: unknown (given 'mamba4'): one of attention, mlp, mamba" in message
    )
    assert "did you mean mamba" in message
    message = refused({"kind": kind, "mixers": ["attention", {"kind": "mamba2", "d_sate": 3}]})
    assert (
        "model.mixer.mixers.1.d_sate: unknown key (given 3): did you mean model.mixer.mixers.1.d_state"
        in message
    )


def test_a_pattern_that_does_not_come_out_even_is_refused():
    message = refused({"kind": "pattern", "mixers": ["mamba2", "mamba2", "attention"]})
    assert "mixers has 3 layers" in message and "num_layers, 2:" in message
    assert "set it to a multiple of 3, or give a list of 1 or 2" in message


def test_an_order_that_the_task_does_not_have_is_refused_with_its_place(monkeypatch):
    mixer = {"kind": "sublayers", "mixers": ["attention", {"kind": "mamba2", "order": ["row", "box"]}]}
    TrialConfig.model_validate({"model": {"mixer": mixer}})
    maze = property(lambda _: TaskShape(vocab_size=6, seq_len=81, grid=Grid(9, 9)))
    monkeypatch.setattr(SudokuConfig, "shape", maze)
    message = refused(mixer)
    assert message.startswith(
        "x.yaml: model.mixer.mixers.1.order has 'box', but the task's board, 9 x 9, has no"
    )


def test_parts_that_do_not_fit_are_named():
    message = refused({"kind": "sublayers", "mixers": ["attention", {"kind": "mamba2", "headdim": 48}]})
    assert "model.mixer.mixers.1.headdim is 48, which does not divide the 640 channels" in message
    parallel = {"kind": "parallel", "mixers": ["mlp", {"kind": "mamba", "direction": "quasiseparable"}]}
    message = refused({"kind": "pattern", "mixers": ["mlp", parallel]})
    assert "model.mixer.mixers.1.mixers.1.direction is 'quasiseparable', which only mamba2 has" in message
    assert "set kind to mamba2" in message
    assert "model.mixer.mixers" in refused({"kind": "sublayers", "mixers": []})


@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        ("mamba2", "model.mixer: must be a mapping (given 'mamba2'): give {kind: mamba2}"),
        (
            ["mamba2", "mlp"],
            "(given ['mamba2', 'mlp']): give {kind: pattern, mixers: [...]}, a mixer a layer",
        ),
        (
            {"kind": "parallel", "mixers": ["mlp"]},
            "model.mixer.mixers: must have at least 2 items (given ['mlp'])",
        ),
        ({"kind": "parallel", "mixers": "mlp"}, "model.mixer.mixers: must be a list (given 'mlp')"),
        ({"kind": "parallel", "mixers": ["mlp", 3]}, "mixers.1: must be a mapping of keys (given 3)"),
        ({"kind": "pattern", "mixers": ["mamba4"]}, "mixers.0.kind: unknown (given 'mamba4'): one of att"),
        ({"kind": "mamba", "order": "rows"}, "order: must be 'row', 'column' or 'box' (given 'rows')"),
        ({"kind": "mamba", "order": ["row", 1]}, "order.1: must be 'row', 'column' or 'box' (given 1)"),
        ({"kind": "mamba", "order": []}, "model.mixer.order: must have at least 1 item (given [])"),
    ],
    ids=str,
)
def test_a_mistake_is_told_once(mixer, message):
    (line,) = refused(mixer).splitlines()
    assert message in line


DELTA: dict[str, Any] = {"kind": "gated_deltanet", "num_heads": 2, "d_state": 4, "head_dim": 4}
MAMBA3: dict[str, Any] = {"kind": "mamba3", "d_state": 4, "headdim": 4, "expand": 1.0}


def beside(*mixers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"kind": "parallel", "mixers": list(mixers)} | changes


BOTH = beside(MAMBA3, DELTA)
AMPLIFIES = {
    "default": (BOTH, True),
    "two layers of a pattern": ({"kind": "pattern", "mixers": [BOTH, "attention"]}, True),
    "sublayers": ({"kind": "sublayers", "mixers": ["attention", BOTH]}, True),
    "smaller": (BOTH | {"beta_init": 0.3}, False),
    "another part, not measured": (beside(MAMBA3, DELTA, MAMBA2), False),
    "one of them": (beside(MAMBA3, MAMBA2), False),
    "not side by side": ({"kind": "pattern", "mixers": [DELTA, MAMBA3]}, False),
}


@pytest.mark.parametrize(("mixer", "is_told"), AMPLIFIES.values(), ids=AMPLIFIES)
def test_side_by_side_parts_that_were_measured_to_amplify_are_told(
    mixer: dict[str, Any], is_told: bool
) -> None:
    assert sum("amplified" in note for note in model_of(2, mixer).notes) == is_told


def test_what_is_told_of_the_gain_is_what_was_measured() -> None:
    (note,) = model_of(2, BOTH).notes
    measured = json.loads((ROOT / "docs/bench/loop_gain.json").read_text())["others"]
    for beta, low, high, said in (
        ("1", 40, 200, "at 1 the loop of a new network amplified a change 40 to 200 times"),
        ("0.3", 0.3, 0.5, "at 0.3 it shrank one to 0.3 to 0.5 of itself (three seeds"),
    ):
        gains = measured[f"parallel, beta_init {beta}"]["gain"]
        assert (float(f"{min(gains):.1g}"), float(f"{max(gains):.1g}"), len(gains)) == (low, high, 3)
        assert said in note


TURNS_NONE = {
    "one layer": (1, MAMBA2, {}, True),
    "one layer in each network": (1, MAMBA2, {"networks": "separate"}, True),
    "a part of parallel": (1, beside(MAMBA2, FORWARD), {}, True),
    "two layers": (2, MAMBA2, {}, False),
    "two layers in one network": (1, MAMBA2, {"networks": "separate", "h_layers": 2}, False),
    "two scans in one layer": (1, {"kind": "sublayers", "mixers": [MAMBA2, MAMBA2]}, {}, False),
    "forward, as it was asked for": (1, FORWARD, {}, False),
    "both ways": (1, MAMBA2 | {"direction": "bidirectional_tied"}, {}, False),
    "attention beside it": (1, beside(MAMBA2, ATTENTION), {}, False),
    "no scan": (1, ATTENTION, {}, False),
}


@pytest.mark.parametrize(("depth", "mixer", "changes", "is_told"), TURNS_NONE.values(), ids=TURNS_NONE)
def test_alternating_that_turns_no_scan_round_is_told(
    depth: int, mixer: dict[str, Any], changes: dict[str, Any], is_told: bool
) -> None:
    assert any("no second one" in note for note in model_of(depth, mixer, **changes).notes) == is_told


def test_where_it_is_told_no_token_depends_on_those_after_it() -> None:
    config = model_of(1, MAMBA2)
    assert config.notes
    block = block_of(config)
    x = torch.randn(1, LAYOUT.seq_len, 16)
    changed = x.clone()
    changed[:, 5] += 1
    with torch.no_grad():
        same = torch.isclose(block(x, 0 * x), block(changed, 0 * x)).all(-1)[0]
    assert same[:5].all() and not same[5:].any()
