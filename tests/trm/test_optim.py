import math

import pytest
import torch
from torch import nn

from tests.trm.mixers.conformance import HIDDEN, small
from trm.config import OptimConfig
from trm.data.base import TaskShape
from trm.mixers import MIXERS
from trm.mixers.attention import AttentionConfig
from trm.model import TRM
from trm.model_config import ModelConfig
from trm.optim import Optimizers, SignSGD, learning_rate, matrices


def small_model(puzzle_emb_len: int = 2) -> TRM:
    config = ModelConfig(hidden_size=16, mixer=AttentionConfig(num_heads=2), puzzle_emb_len=puzzle_emb_len)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TRM(config, TaskShape(6, 9))


def give_gradients(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def optimizers_for(model: TRM, max_steps: int = 100, warmup_steps: int = 0, **config):
    return Optimizers(model, OptimConfig(**config), max_steps, warmup_steps)


def take_step(optimizers: Optimizers, step: int = 1) -> None:
    optimizers.set_rates(step)
    optimizers.step()


def test_warm_up_is_linear_and_starts_above_0():
    rates = [learning_rate(step, 1e-4, 2000, 10_000, 1.0) for step in (1, 1000, 2000, 9999)]
    assert rates == pytest.approx([1e-4 / 2000, 5e-5, 1e-4, 1e-4])


def test_cosine_ends_at_the_ratio_and_stays_there():
    rates = [learning_rate(step, 1.0, 10, 110, 0.2) for step in (10, 60, 110, 500)]
    assert rates == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_each_step_sets_both_rates():
    model = small_model()
    optimizers = optimizers_for(model, 10, 4, lr=1e-3, puzzle_emb_lr=1e-2, puzzle_emb_weight_decay=0.0)
    give_gradients(model)
    take_step(optimizers)
    assert optimizers.lr == pytest.approx(1e-3 / 4)
    torch.testing.assert_close(model.puzzle_emb.weights.abs(), torch.full((1, 16), 1e-2 / 4))


def test_first_adamw_step_by_hand_decays_everything_biases_too():
    model = small_model()
    before = {name: p.detach().clone() for name, p in model.network_parameters()}
    give_gradients(model)
    take_step(optimizers_for(model, lr=1e-2, weight_decay=0.5))
    for name, p in model.network_parameters():  # after one step m / sqrt(v) is the gradient's sign
        expected = before[name] * (1 - 1e-2 * 0.5) - 1e-2 * p.grad.sign()
        torch.testing.assert_close(p.detach(), expected, rtol=1e-4, atol=1e-5)


def test_marked_parameters_do_not_decay():
    model = small_model()
    model.q_head.bias._no_weight_decay = True
    bias = model.q_head.bias.detach().clone()
    weight = model.lm_head.weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    take_step(optimizers_for(model, lr=1e-2, weight_decay=1.0))
    assert torch.equal(model.q_head.bias.detach(), bias)
    torch.testing.assert_close(model.lm_head.weight.detach(), weight * 0.99)


def test_sign_sgd_by_hand():
    p = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    p.grad = torch.tensor([1e-9, -7.0, 0.0])
    SignSGD([p], lr=torch.tensor(0.1), weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.tensor([0.95 - 0.1, -1.9 + 0.1, 2.85]))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_is_in_one_optimizer_once(kind):
    model = small_model()
    optimizers = optimizers_for(model, kind=kind)
    held = [p for opt in optimizers._optimizers.values() for g in opt.param_groups for p in g["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_a_model_without_puzzle_embedding_needs_no_sign_sgd():
    model = small_model(puzzle_emb_len=0)
    give_gradients(model)
    optimizers = optimizers_for(model)
    take_step(optimizers)
    assert "sign_sgd" not in optimizers.state_dict()


def test_zero_grad_reaches_every_parameter():
    model = small_model()
    give_gradients(model)
    optimizers_for(model).zero_grad()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_resumed_steps_are_bit_identical(kind):
    config = {"lr": 1e-2, "lr_min_ratio": 0.1, "kind": kind, "clip_norm": 1.0}

    def run(resume_at: int | None) -> tuple[torch.Tensor, float]:
        model = small_model()
        optimizers = optimizers_for(model, 6, 2, **config)
        for step in range(1, 7):
            if step == resume_at:
                state = optimizers.state_dict()
                optimizers = optimizers_for(model, 6, 2, **config)
                optimizers.load_state_dict(state)
            give_gradients(model, seed=step)
            take_step(optimizers, step)
        return torch.cat([p.detach().flatten() for p in model.parameters()]), optimizers.lr

    weights, lr = run(None)
    resumed_weights, resumed_lr = run(4)
    assert torch.equal(weights, resumed_weights)
    assert lr == resumed_lr and math.isclose(lr, 1e-3)


def test_settings_are_not_taken_from_a_checkpoint() -> None:
    """One that was written on a GPU says fused and capturable, which a CPU's optimizer is not."""
    model = small_model()
    give_gradients(model)
    optimizers = optimizers_for(model)
    take_step(optimizers)
    state = optimizers.state_dict()
    for group in state["adamw"]["param_groups"]:
        group |= {"fused": True, "capturable": True, "lr": 0.5, "weight_decay": 7.0}
    loaded = optimizers_for(model, lr=1e-2)
    loaded.load_state_dict(state)
    for group in loaded._optimizers["adamw"].param_groups:
        assert not group["fused"] and not group["capturable"] and group["weight_decay"] != 7.0
    loaded.set_rates(1)
    assert {float(g["lr"]) for g in loaded._optimizers["adamw"].param_groups} == {1e-2}


def test_steps_change_rates_and_moments_in_place() -> None:
    """A CUDA graph reads and writes the memory that it was recorded with."""
    model = small_model()
    give_gradients(model)
    optimizers = optimizers_for(model, 10, 4)
    take_step(optimizers)

    def memory() -> list[int]:
        groups = [g for opt in optimizers._optimizers.values() for g in opt.param_groups]
        moments = [state for opt in optimizers._optimizers.values() for state in opt.state.values()]
        tensors = [g["lr"] for g in groups] + [value for state in moments for value in state.values()]
        return [tensor.data_ptr() for tensor in tensors]

    before = memory()
    take_step(optimizers, 2)
    assert len(before) > 10 and memory() == before


def test_muon_turns_the_blocks_matrices_alone():
    """Its first step is near the orthogonal matrix of the gradient, with the RMS that AdamW's step has."""
    model = small_model()
    before = {name: p.detach().clone() for name, p in model.network_parameters()}
    give_gradients(model)
    take_step(optimizers_for(model, kind="muon", lr=1e-2, weight_decay=0.5))
    turned = set()
    for name, p in model.network_parameters():
        step = (before[name] * (1 - 1e-2 * 0.5) - p.detach()) / 1e-2
        if torch.allclose(step, p.grad.sign(), rtol=1e-3, atol=1e-3):
            continue
        turned.add(name)
        of_gradient = torch.linalg.svd(p.grad, full_matrices=False)
        along = (of_gradient.U.T @ step @ of_gradient.Vh.T).diagonal() / (0.2 * max(p.shape) ** 0.5)
        assert along.min() > 0.5 and along.max() < 1.3, name
    assert turned == {n for n, p in model.named_parameters() if n.startswith("block.") and p.ndim == 2}


# Matrices of the mixers that are no linear map of their own to the optimizer.
WITH_ADAMW = {
    "mamba": {"A_log", "dt_proj.weight"},
    "mamba3": {"B_bias", "C_bias"},
    "rwkv7": {"w1", "w2", "a1", "a2", "g1", "g2"},
}


@pytest.mark.parametrize("kind", MIXERS)
def test_muon_has_the_linear_maps_of_every_mixer(kind):
    config = ModelConfig(hidden_size=HIDDEN, num_layers=2, mixer=small(MIXERS[kind]))
    with torch.random.fork_rng():
        model = TRM(config, TaskShape(6, 9))
    held = {id(parameter) for parameter in matrices(model)}
    left = {n for n, p in model.block.named_parameters() if p.ndim == 2 and id(p) not in held}
    assert {name.partition(".mixers.0.")[2] for name in left} == WITH_ADAMW.get(kind, set())


def test_muons_rate_follows_the_schedule():
    model = small_model()
    optimizers = optimizers_for(model, 10, 4, kind="muon", lr=1e-3, puzzle_emb_lr=1e-2)
    for step in (1, 2):
        optimizers.set_rates(step)
        rates = {n: float(o.param_groups[0]["lr"]) for n, o in optimizers._optimizers.items()}
        expected = {"adamw": 1e-3 * step / 4, "muon": 1e-3 * step / 4, "sign_sgd": 1e-2 * step / 4}
        assert rates == pytest.approx(expected)


def test_clipping_bounds_the_norm_of_the_networks_gradient():
    model = small_model()
    give_gradients(model)
    of_embedding = model.puzzle_emb.weights.grad.clone()
    direction = model.lm_head.weight.grad.clone()
    take_step(optimizers_for(model, clip_norm=0.5))
    norm = torch.cat([p.grad.flatten() for _, p in model.network_parameters()]).norm()
    assert norm.item() == pytest.approx(0.5, rel=1e-4)
    assert torch.equal(model.puzzle_emb.weights.grad, of_embedding)
    clipped = model.lm_head.weight.grad
    torch.testing.assert_close(clipped / clipped.norm(), direction / direction.norm())


def test_a_gradient_below_the_norm_is_left_alone():
    model = small_model()
    give_gradients(model)
    before = model.lm_head.weight.grad.clone()
    take_step(optimizers_for(model, clip_norm=1e4))
    torch.testing.assert_close(model.lm_head.weight.grad, before)
