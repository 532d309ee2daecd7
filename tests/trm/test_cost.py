import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.trm.mixers.conformance import HIDDEN
from tests.trm.mixers.conformance import small as small_mixer
from trm.config import TrialConfig
from trm.cost import block_flops, flops_per_sample, forward_flops, num_params
from trm.mixers import MIXERS
from trm.model import build_model


def config_of(**model) -> TrialConfig:
    return TrialConfig.model_validate({"model": model})


def small(kind: str, **model) -> TrialConfig:
    mixer = small_mixer(MIXERS[kind]).model_dump()
    return config_of(hidden_size=HIDDEN, h_cycles=2, l_cycles=1, puzzle_emb_len=3, mixer=mixer, **model)


@pytest.mark.parametrize(
    ("mixer", "pos_encodings", "params", "published"),
    [("attention", "rope", 6_828_034, 6.83), ("mlp", "none", 5_028_866, 5.03)],
)
def test_the_published_recipe_has_the_published_parameters(mixer, pos_encodings, params, published):
    config = config_of(mixer={"kind": mixer}, pos_encodings=pos_encodings)
    assert num_params(config) == params
    assert round(params / 1e6, 2) == published
    model = build_model(config, 0, "cpu")
    assert sum(p.numel() for _, p in model.network_parameters()) == params


@pytest.mark.parametrize("networks", ["shared", "separate"])
@pytest.mark.parametrize("pos_encodings", ["rope", "learned"])
@pytest.mark.parametrize("kind", MIXERS)
def test_num_params_equals_the_count(kind, pos_encodings, networks):
    swiglu = "conv" if networks == "separate" else "plain"
    config = small(kind, pos_encodings=pos_encodings, num_layers=3, networks=networks, swiglu=swiglu)
    model = build_model(config, 0, "cpu")
    assert num_params(config) == sum(p.numel() for _, p in model.network_parameters())


@pytest.mark.parametrize("kind", MIXERS)
def test_forward_flops_equal_the_flop_counter(kind):
    config = small(kind)
    network = build_model(config, 0, "cpu").eval()
    board = torch.ones(1, config.data.shape.seq_len, dtype=torch.uint8)
    # The counter does not know the fused attention of the CPU: let it be two matrix products.
    math = sdpa_kernel(SDPBackend.MATH)
    with math, FlopCounterMode(display=False) as counter, torch.no_grad():
        network(network.initial_carry(1, "cpu"), board, board)
    model = config.model
    uncounted = model.num_layers * model.mixer.uncounted_flops(model.hidden_size, config.layout)
    passes = model.h_cycles * (model.l_cycles + 1)
    assert forward_flops(config) == counter.get_total_flops() + passes * uncounted


@pytest.mark.parametrize("gradient", ["recursion", "one_step"])
@pytest.mark.parametrize("kind", MIXERS)
def test_two_networks_may_have_two_depths(kind, gradient):
    """l_cycles updates by the network of z_L and one by that of z_H, h_cycles times."""
    fields = {"networks": "separate", "num_layers": 2, "h_layers": 3, "gradient": gradient}
    mixer = small_mixer(MIXERS[kind]).model_dump()
    config = config_of(hidden_size=HIDDEN, h_cycles=2, l_cycles=4, puzzle_emb_len=3, mixer=mixer, **fields)
    network = build_model(config, 0, "cpu").eval()
    assert num_params(config) == sum(p.numel() for _, p in network.network_parameters())
    board = torch.ones(1, config.data.shape.seq_len, dtype=torch.uint8)
    math = sdpa_kernel(SDPBackend.MATH)
    with math, FlopCounterMode(display=False) as counter, torch.no_grad():
        network(network.initial_carry(1, "cpu"), board, board)
    uncounted = 2 * (4 * 2 + 3) * config.model.mixer.uncounted_flops(HIDDEN, config.layout)
    assert forward_flops(config) == counter.get_total_flops() + uncounted
    assert config.model.effective_depth == 2 * (4 * 2 + 3)
    of_z_L, of_z_H = (block_flops(config.model, config.layout, depth) for depth in (2, 3))
    heads = forward_flops(config) - 2 * (4 * of_z_L + of_z_H)
    last = {"recursion": 4 * of_z_L + of_z_H, "one_step": of_z_L + of_z_H}[gradient]
    assert flops_per_sample(config) == forward_flops(config) + 2 * (last + heads)


def test_backward_counts_twice_and_through_the_last_recursion_only():
    one, three = (small("attention").model_copy(deep=True) for _ in range(2))
    three = TrialConfig.model_validate(
        three.model_dump() | {"model": three.model.model_dump() | {"h_cycles": 3}}
    )
    recursion = forward_flops(three) - forward_flops(one)
    assert flops_per_sample(three) - flops_per_sample(one) == recursion
    backward = flops_per_sample(one) - forward_flops(one)
    heads = forward_flops(one) - 2 * recursion
    assert backward == 2 * (recursion + heads)


def test_one_step_gradient_goes_back_through_two_updates():
    whole = config_of(hidden_size=32, l_cycles=4, mixer={"kind": "mlp"})
    one_step = config_of(hidden_size=32, l_cycles=4, mixer={"kind": "mlp"}, gradient="one_step")
    assert forward_flops(whole) == forward_flops(one_step)
    saved = flops_per_sample(whole) - flops_per_sample(one_step)
    assert saved == 2 * 3 * block_flops(whole.model, whole.layout, whole.model.num_layers)


def test_learning_to_continue_costs_a_second_forward_pass():
    halt, learns = (small("mlp", act=act) for act in ("halt", "continue"))
    model = build_model(learns, 0, "cpu")
    board = torch.ones(1, learns.data.shape.seq_len, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(model.initial_carry(1, "cpu"), board, board, model.draw_noise(1, generator))
    assert flops_per_sample(learns) - flops_per_sample(halt) == counter.get_total_flops() - forward_flops(
        halt
    )
    assert flops_per_sample(small("mlp", act="continue", halt_max_steps=1)) == flops_per_sample(halt)


@pytest.mark.parametrize("latents", ["single", "multi_scale"])
def test_other_latents_have_the_parameters_and_the_work_of_two(latents):
    two, other = (small("mlp", latents=kind) for kind in ("two", latents))
    model = build_model(other, 0, "cpu")
    assert num_params(two) == num_params(other) == sum(p.numel() for _, p in model.network_parameters())
    assert flops_per_sample(two) == flops_per_sample(other)
