"""The keys of the recursion that are off by default: the gradient's horizon, damping, noise and dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.trm.test_model import BATCH, SHAPE, puzzles, small_model
from tests.trm.test_trainer import make_config
from trm.cost import flops_per_sample
from trm.mixers.mlp import MLPConfig
from trm.model import TRM, Noise, build_model


def states(model: TRM, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """z_H, z_L and x as a supervision step has them in its middle."""
    generator = torch.Generator().manual_seed(seed)
    carry = model.initial_carry(BATCH, "cpu")
    z_H, z_L = (torch.randn(z.shape, generator=generator) for z in (carry.z_H, carry.z_L))
    return z_H, z_L, model.embed_inputs(puzzles(seed)[0])


@settings(deadline=None, max_examples=20)
@given(
    h_cycles=st.integers(1, 3),
    l_cycles=st.integers(1, 3),
    recursions=st.integers(1, 3),
    updates=st.integers(1, 3),
    networks=st.sampled_from(["shared", "separate"]),
)
def test_the_gradient_goes_through_the_last_updates_of_the_last_recursions(
    h_cycles: int, l_cycles: int, recursions: int, updates: int, networks: str
) -> None:
    """Against the loop written out, in which what has no gradient is detached."""
    recursions, updates = min(recursions, h_cycles), min(updates, l_cycles)
    horizon = {"gradient_h_cycles": recursions, "gradient_l_cycles": updates}
    sizes = {"h_cycles": h_cycles, "l_cycles": l_cycles, "networks": networks, "mixer": MLPConfig()}
    model = small_model(**sizes, **horizon)
    z_H, z_L, x = states(model)
    answer, _ = model.deep_recursion(z_H, z_L, x)
    answer.square().sum().backward()
    found = [p.grad for block in model.blocks for p in block.parameters()]

    model.zero_grad()
    x = model.embed_inputs(puzzles(0)[0])
    for recursion in range(h_cycles):
        for i in range(l_cycles):
            z_L = model.block(z_L, z_H + x)
            if recursion < h_cycles - recursions or i < l_cycles - updates:
                z_L = z_L.detach()
        z_H = model.blocks[-1](z_H, z_L)
        if recursion < h_cycles - recursions:
            z_H = z_H.detach()
    z_H.square().sum().backward()
    torch.testing.assert_close(answer, z_H)
    for mine, plain in zip(found, (p.grad for b in model.blocks for p in b.parameters()), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("horizon", [(1, 1), (2, 1), (2, 3), (3, 2)])
def test_training_flops_count_the_updates_with_a_gradient(horizon: tuple[int, int]) -> None:
    recursions, updates = horizon
    model = {"h_cycles": 3, "l_cycles": 3, "gradient_h_cycles": recursions, "gradient_l_cycles": updates}
    config = make_config(model=model | {"halt_exploration_prob": 0.0})
    network = build_model(config, 0, "cpu")
    board = torch.ones(1, 16, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        _, output = network(network.initial_carry(1, "cpu"), board, board)
        (output.logits.sum() + output.q_halt_logits.sum()).backward()
    # The first update with a gradient needs none to its input, and nor does the halting head's unused output.
    assert flops_per_sample(config) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("latents", ["two", "single", "multi_scale"])
def test_a_damped_update_keeps_a_share_of_the_state(latents: str) -> None:
    plain = small_model(latents=latents, h_cycles=1, l_cycles=2)
    damped = small_model(latents=latents, h_cycles=1, l_cycles=2, damping=0.25)
    z_H, z_L, x = states(plain)
    latent = [z_L] if latents == "two" else [*z_L.unbind(1)]
    latent_d = list(latent)
    for i in range(3):
        own = i % len(latent) if latent and i < 2 else None
        old = z_H if own is None else latent[own]
        new = plain._update(i, z_H, latent, x)
        if own is not None:
            new = latent[own]
        got = damped._update(i, z_H, latent_d, x)
        got = got if own is None else latent_d[own]
        torch.testing.assert_close(got, 0.25 * old + 0.75 * new)
        latent = list(latent_d)
        z_H = got if own is None else z_H


def test_an_update_without_damping_is_the_update() -> None:
    z = states(small_model())
    assert all(
        map(torch.equal, small_model().deep_recursion(*z), small_model(damping=0.0).deep_recursion(*z))
    )


DISTURBED = {"latent_noise": 0.5, "latent_dropout": 0.25}


@pytest.mark.parametrize("latents", ["two", "multi_scale"])
def test_dropout_comes_before_the_noise(latents: str) -> None:
    model = small_model(latents=latents, **DISTURBED)
    noise = model.draw_noise(BATCH, torch.Generator().manual_seed(0))
    z_L = states(model)[1]
    expected = torch.where(noise.kept, z_L / 0.75, torch.zeros(())) + 0.5 * noise.latent
    torch.testing.assert_close(model._disturbed(z_L, noise), expected)


def test_noise_and_dropout_are_as_large_as_the_keys_say() -> None:
    model = small_model(**DISTURBED)
    noise = model.draw_noise(2000, torch.Generator().manual_seed(0))
    assert noise.latent.shape == (2000, 11, 16)
    assert noise.latent.std().item() == pytest.approx(1, rel=0.01) and abs(noise.latent.mean()) < 0.01
    assert noise.kept.float().mean().item() == pytest.approx(0.75, rel=0.01)


def test_only_training_disturbs_the_latents() -> None:
    plain, model = small_model().eval(), small_model(**DISTURBED).eval()
    batch, carry = puzzles(1), plain.initial_carry(BATCH, "cpu")
    assert torch.equal(model(carry, *batch)[1].logits, plain(carry, *batch)[1].logits)
    model.train()
    noise = model.draw_noise(BATCH, torch.Generator().manual_seed(0))
    assert not torch.allclose(model(carry, *batch, noise=noise)[1].logits, plain(carry, *batch)[1].logits)


@pytest.mark.parametrize("key", DISTURBED)
def test_training_without_what_it_draws_is_refused(key: str) -> None:
    model = small_model(**{key: 0.5})
    carry = model.initial_carry(BATCH, "cpu")
    for noise in (None, Noise()):
        with pytest.raises(ValueError, match=rf"model.{key} is 0.5, .*draw_noise"):
            model(carry, *puzzles(1), noise=noise)


def test_the_latents_noise_does_not_move_the_draws_of_halting() -> None:
    changes: tuple[dict[str, Any], ...] = ({}, DISTURBED)
    plain, disturbed = (
        small_model(halt_exploration_prob=0.5, **each).draw_noise(BATCH, torch.Generator().manual_seed(4))
        for each in changes
    )
    assert torch.equal(plain.explores, disturbed.explores)
    assert torch.equal(plain.min_steps, disturbed.min_steps)
    assert plain.latent is None and plain.kept is None
    part = disturbed.rows(slice(1, 3))
    assert len(part.explores) == len(part.latent) == len(part.kept) == 2
    assert SHAPE.seq_len + 2 == part.latent.shape[-2]
