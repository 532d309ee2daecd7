import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trm.config import LossConfig, TrialConfig
from trm.data.base import TaskShape
from trm.layers import RotaryEmbedding
from trm.losses import supervision_loss
from trm.mixers.attention import Attention, AttentionConfig
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config
from trm.mixers.mlp import MLPConfig
from trm.model import TRM, build_model
from trm.model_config import ModelConfig

SHAPE = TaskShape(vocab_size=6, seq_len=9)
BATCH = 5


def small_model(seed: int = 0, **changes) -> TRM:
    defaults = {
        "hidden_size": 16,
        "mixer": AttentionConfig(num_heads=2),
        "h_cycles": 2,
        "l_cycles": 2,
        "puzzle_emb_len": 2,
        "halt_max_steps": 4,
        "halt_exploration_prob": 0.0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TRM(ModelConfig(**defaults | changes), SHAPE)


def puzzles(seed: int, rows: int = BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(1, 6, (rows, 9), generator=generator, dtype=torch.uint8) for _ in range(2))


def draw(model, generator):
    return model.draw_noise(BATCH, generator) if generator else None


def run(model, seeds, generator=None):
    """The carries and outputs of one supervision step for each seed's batch."""
    carry, steps = model.initial_carry(BATCH, "cpu"), []
    for seed in seeds:
        carry, output = model(carry, *puzzles(seed), noise=draw(model, generator))
        steps.append((carry, output))
    return steps


def set_halting(model: TRM, q_halt_logit: float) -> None:
    with torch.no_grad():
        model.q_head.bias.fill_(q_halt_logit)


def test_the_first_step_takes_every_puzzle():
    model = small_model()
    ((carry, output),) = run(model, [1])
    inputs, labels = puzzles(1)
    assert torch.equal(carry.inputs, inputs) and torch.equal(carry.labels, labels)
    assert carry.steps.tolist() == [1] * BATCH and carry.steps.dtype == torch.int32
    assert output.logits.shape == (BATCH, 9, 6) and output.q_halt_logits.shape == (BATCH,)
    assert carry.z_H.shape == carry.z_L.shape == (BATCH, 11, 16)
    assert output.q_halt_logits.tolist() == [-5.0] * BATCH  # zero weight, the bias alone


def test_halted_rows_start_anew_and_the_others_go_on():
    model = small_model()
    ((carry, _),) = run(model, [1])
    carry = dataclasses.replace(carry, halted=torch.tensor([True, False, False, True, False]))
    after, output = model(carry, *puzzles(2))
    new, old = carry.halted, ~carry.halted
    assert torch.equal(after.inputs[new], puzzles(2)[0][new])
    assert torch.equal(after.inputs[old], puzzles(1)[0][old])
    assert torch.equal(after.labels[old], puzzles(1)[1][old])
    assert after.steps.tolist() == [1, 2, 2, 1, 2]
    fresh, fresh_output = model(model.initial_carry(BATCH, "cpu"), *puzzles(2))
    torch.testing.assert_close(after.z_H[new], fresh.z_H[new])
    torch.testing.assert_close(output.logits[new], fresh_output.logits[new])
    continued, _ = model(dataclasses.replace(carry, halted=torch.zeros(BATCH).bool()), *puzzles(2))
    torch.testing.assert_close(after.z_L[old], continued.z_L[old])


def test_rows_do_not_see_each_other():
    model = small_model()
    inputs, labels = puzzles(1)
    other = inputs.clone()
    other[2] = 6 - other[2]
    _, before = model(model.initial_carry(BATCH, "cpu"), inputs, labels)
    _, after = model(model.initial_carry(BATCH, "cpu"), other, labels)
    changed = (before.logits - after.logits).abs().amax((1, 2))
    assert changed[2] > 1e-3
    assert changed[[0, 1, 3, 4]].max() < 1e-5


@pytest.mark.parametrize("h_cycles", [1, 3])
def test_only_the_last_recursion_has_a_gradient(h_cycles):
    model = small_model(h_cycles=h_cycles, mixer=MLPConfig())
    tracked = []
    model.block.register_forward_hook(lambda _module, _args, out: tracked.append(out.requires_grad))
    with FlopCounterMode(display=False) as forward:
        ((carry, output),) = run(model, [1])
    recursion = model.config.l_cycles + 1
    assert tracked == [False] * ((h_cycles - 1) * recursion) + [True] * recursion
    assert not carry.z_H.requires_grad and not carry.z_L.requires_grad
    with FlopCounterMode(display=False) as backward:
        output.logits.sum().backward()
    lm_head, q_head = 2 * BATCH * 16 * 9 * 6, 2 * BATCH * 16 * 2
    one_recursion = (forward.get_total_flops() - lm_head - q_head) // h_cycles
    assert backward.get_total_flops() == 2 * (one_recursion + lm_head)


@pytest.mark.parametrize("networks", ["shared", "separate"])
def test_with_one_step_gradient_the_last_update_of_each_state_has_one(networks):
    model = small_model(h_cycles=2, l_cycles=3, mixer=MLPConfig(), gradient="one_step", networks=networks)
    whole = small_model(h_cycles=2, l_cycles=3, mixer=MLPConfig(), networks=networks)
    tracked = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _args, out: tracked.append(out.requires_grad))
    ((_, output),) = run(model, [1])
    assert tracked == [False] * 6 + [True] * 2
    ((_, same),) = run(whole, [1])
    assert torch.equal(output.logits, same.logits)  # what it computes is the same


def test_separate_networks_update_one_state_each():
    model = small_model(h_cycles=2, l_cycles=3, mixer=MLPConfig(), networks="separate")
    calls = []
    for name, block in zip("LH", model.blocks, strict=True):
        block.register_forward_hook(lambda _module, _args, _out, name=name: calls.append(name))
    run(model, [1])
    assert calls == list("LLLH" * 2)
    one, other = (block.layers[0].mlp.gate_up_proj.weight for block in model.blocks)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("networks", ["shared", "separate"])
@pytest.mark.parametrize("latents", ["single", "multi_scale"])
def test_other_latents_are_what_table_2_describes(latents, networks):
    model = small_model(h_cycles=2, l_cycles=3, latents=latents, networks=networks)
    f_L, f_H = model.blocks[0], model.blocks[-1]
    ((carry, _),) = run(model, [1])
    x = model.embed_inputs(carry.inputs)
    y = model.H_init.expand(BATCH, 11, 16)
    if latents == "single":
        for _ in range(2):
            for _ in range(3):
                y = f_L(y, x)
            y = f_H(y, torch.zeros_like(y))
        assert carry.z_L.shape == (BATCH, 0, 11, 16)
    else:
        a, b, c = (z.expand(BATCH, 11, 16) for z in model.L_init)
        for _ in range(2):
            a = f_L(a + b + c, y + x)
            b = f_L(a + b + c, y + x)
            c = f_L(a + b + c, y + x)
            y = f_H(y, a + b + c)
        torch.testing.assert_close(carry.z_L, torch.stack([a, b, c], dim=1))
    torch.testing.assert_close(carry.z_H, y)


def test_several_scales_with_one_update_are_two_latents():
    one, two = (small_model(l_cycles=1, latents=latents) for latents in ("multi_scale", "two"))
    assert torch.equal(run(one, [1, 2])[-1][1].logits, run(two, [1, 2])[-1][1].logits)


@pytest.mark.parametrize("latents", ["single", "multi_scale"])
def test_rows_reset_their_latents_too(latents):
    model = small_model(latents=latents, l_cycles=3)
    ((carry, _),) = run(model, [1])
    carry = dataclasses.replace(carry, halted=torch.tensor([True, False, False, True, False]))
    after, _ = model(carry, *puzzles(2))
    fresh, _ = model(model.initial_carry(BATCH, "cpu"), *puzzles(2))
    new = carry.halted
    torch.testing.assert_close(after.z_L[new], fresh.z_L[new])
    torch.testing.assert_close(after.z_H[new], fresh.z_H[new])
    assert not torch.allclose(after.z_H[~new], fresh.z_H[~new])


def test_q_learning_halts_where_halting_is_worth_more_than_going_on():
    model = small_model(act="continue")
    halts = []
    for bias in ([1.0, 2.0], [-1.0, -2.0]):
        with torch.no_grad():
            model.q_head.bias.copy_(torch.tensor(bias))
        halts.append(run(model, [1])[0][0].halted.tolist())
    assert halts == [[False] * BATCH, [True] * BATCH]


def test_q_continue_learns_from_the_next_step():
    model = small_model(act="continue", halt_max_steps=2)
    with torch.no_grad():
        model.q_head.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.q_head.bias.copy_(torch.tensor([-99.0, 0.0]))  # no row halts before its last step
    (_, first), (_, second) = run(model, [1, 2])
    with torch.no_grad():  # the second step is the next one of the first: both see the puzzles of seed 1
        again = small_model(act="continue", halt_max_steps=3)
        again.load_state_dict(model.state_dict())
        carry, _ = again(again.initial_carry(BATCH, "cpu"), *puzzles(1))
        q_after = [model.q_logits(carry.z_H)]
        for _ in range(2):
            carry, _ = again(carry, *puzzles(1))
            q_after.append(model.q_logits(carry.z_H))
    torch.testing.assert_close(first.target_q_continue, torch.maximum(*q_after[1]).sigmoid())
    torch.testing.assert_close(second.target_q_continue, q_after[2][0].sigmoid())  # then it must halt
    assert not first.target_q_continue.requires_grad and first.q_continue_logits.requires_grad
    ((_, evaluated),) = run(model.eval(), [1])
    assert evaluated.target_q_continue is None


def test_without_act_every_row_has_all_its_steps():
    model = small_model(act="none", halt_max_steps=3, halt_exploration_prob=1.0)
    set_halting(model, 9.0)
    assert [carry.halted.all().item() for carry, _ in run(model, range(4))] == [False, False, True, False]


@pytest.mark.parametrize("act", ["halt", "continue"])
@pytest.mark.parametrize("latents", ["two", "single", "multi_scale"])
@pytest.mark.parametrize("networks", ["shared", "separate"])
def test_every_parameter_gets_a_gradient(networks, latents, act):
    model = small_model(pos_encodings="learned", networks=networks, latents=latents, act=act)
    ((carry, output),) = run(model, [1])
    loss, _ = supervision_loss(output, carry, LossConfig())
    loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []  # q_head.weight too: it is zero, its gradient is not


def test_training_halts_where_q_is_positive_or_steps_run_out():
    model = small_model(halt_max_steps=3)
    assert [c.halted.all().item() for c, _ in run(model, [1, 2, 3, 4])] == [False, False, True, False]
    set_halting(model, 1.0)
    assert all(c.halted.all() and c.steps.eq(1).all() for c, _ in run(model, [1, 2]))


def test_evaluation_always_takes_all_steps():
    model = small_model(halt_max_steps=3, halt_exploration_prob=1.0).eval()
    set_halting(model, 1.0)
    carries = [carry for carry, _ in run(model, [1, 2, 3])]
    assert [c.halted.any().item() for c in carries] == [False, False, True]
    assert torch.equal(carries[-1].inputs, puzzles(1)[0])


def test_exploration_makes_rows_go_on_and_ends_at_the_maximum():
    model = small_model(halt_max_steps=4, halt_exploration_prob=1.0)
    set_halting(model, 1.0)  # without exploration every row would halt at step 1
    carry, halted_at = model.initial_carry(BATCH, "cpu"), []
    generator = torch.Generator().manual_seed(0)
    for seed in range(40):
        carry, _ = model(carry, *puzzles(seed), noise=draw(model, generator))
        halted_at += carry.steps[carry.halted].tolist()
    assert set(halted_at) == {2, 3, 4}


def test_exploration_draws_from_its_generator_alone():
    model = small_model(halt_exploration_prob=0.5)
    set_halting(model, 1.0)

    def halted(seed):
        return torch.stack([c.halted for c, _ in run(model, range(6), torch.Generator().manual_seed(seed))])

    state = torch.get_rng_state()
    first = halted(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, halted(0))
    assert not torch.equal(first, halted(1))
    with pytest.raises(ValueError, match=r"halt_exploration_prob is 0.5.*draw_noise"):
        run(model, [1])


def test_one_supervision_step_at_most_needs_no_exploration():
    model = small_model(halt_max_steps=1, halt_exploration_prob=1.0)
    assert all(carry.halted.all() for carry, _ in run(model, [1, 2]))


def test_build_model_is_a_function_of_its_seed():
    config = TrialConfig.model_validate(
        {"model": {"hidden_size": 16, "mixer": {"kind": "attention", "num_heads": 2}}}
    )
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build_model(config, 1, "cpu").state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second, third = (build_model(config, seed, "cpu").state_dict() for seed in (1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["H_init"], third["H_init"])


def test_equal_seeds_train_to_equal_bits():
    def trained() -> torch.Tensor:
        model = small_model(halt_exploration_prob=0.5)
        generator, carry = torch.Generator().manual_seed(0), model.initial_carry(BATCH, "cpu")
        for seed in range(3):
            carry, output = model(carry, *puzzles(seed), noise=draw(model, generator))
            supervision_loss(output, carry, LossConfig())[0].backward()
            with torch.no_grad():
                for p in model.parameters():
                    p.sub_(p.grad, alpha=0.01)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(trained(), trained())


def test_the_puzzle_embedding_fills_the_first_slot_and_starts_at_zero():
    model = small_model(pos_encodings="none")
    inputs, _ = puzzles(1)
    assert not model.embed_inputs(inputs)[:, :2].any()
    with torch.no_grad():
        model.puzzle_emb.weights.fill_(1.0)
    embedded = model.embed_inputs(inputs)
    assert (embedded[:, 0] == 4).all() and not embedded[:, 1].any()  # times sqrt(D)
    tokens = model.embed_tokens.embedding_weight[inputs.long()]
    torch.testing.assert_close(embedded[:, 2:], 4 * tokens)
    assert "puzzle_emb.weights" not in dict(model.network_parameters())


def test_without_slots_there_is_no_puzzle_embedding():
    model = small_model(puzzle_emb_len=0)
    ((carry, output),) = run(model, [1])
    assert model.puzzle_emb is None
    assert carry.z_H.shape[1] == 9 and output.logits.shape[1] == 9


def test_learned_positions_are_added_and_scaled():
    model = small_model(pos_encodings="learned", puzzle_emb_len=0)
    inputs, _ = puzzles(1)
    both = model.embed_tokens.embedding_weight[inputs.long()] + model.embed_pos.embedding_weight
    torch.testing.assert_close(model.embed_inputs(inputs), 4 * 0.707106781 * both)


def test_position_encodings_are_all_different():
    outputs = [run(small_model(pos_encodings=kind), [1])[0][1].logits for kind in ("rope", "learned", "none")]
    assert not torch.allclose(outputs[0], outputs[2]) and not torch.allclose(outputs[1], outputs[2])


def test_no_position_encoding_means_permuted_tokens_give_permuted_logits():
    model = small_model(pos_encodings="none")
    inputs, labels = puzzles(1)
    order = torch.tensor([3, 1, 8, 0, 2, 7, 6, 5, 4])
    _, output = model(model.initial_carry(BATCH, "cpu"), inputs, labels)
    _, permuted = model(model.initial_carry(BATCH, "cpu"), inputs[:, order], labels)
    torch.testing.assert_close(permuted.logits, output.logits[:, order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("halting_position", ["first", "last"])
def test_the_halting_head_reads_where_the_mixer_says(halting_position):
    model = small_model()
    model.halting_position = halting_position
    with torch.no_grad():
        model.q_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    ((carry, output),) = run(model, [1])
    read = {"first": carry.z_H[:, 0], "last": carry.z_H[:, -1]}[halting_position]
    torch.testing.assert_close(output.q_halt_logits, model.q_head(read)[:, 0])


@pytest.mark.parametrize(
    "mixer",
    [
        AttentionConfig(num_heads=2),
        MLPConfig(),
        *(
            config(direction=direction, expand=2, d_state=4, **extra)
            for config, extra in ((MambaConfig, {}), (Mamba2Config, {"headdim": 8}))
            for direction in ("forward", "alternating", "bidirectional_own")
        ),
    ],
    ids=lambda mixer: f"{mixer.kind}-{getattr(mixer, 'direction', '')}".rstrip("-"),
)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_halting_sees_every_cell(mixer, num_layers):
    model = small_model(mixer=mixer, num_layers=num_layers, h_cycles=1, l_cycles=1)
    with torch.no_grad():
        model.q_head.weight.fill_(1.0)
    seen = []
    model.embed_tokens.register_forward_hook(lambda _module, _args, out: seen.append(out))
    ((_, output),) = run(model, [1])
    (gradient,) = torch.autograd.grad(output.q_halt_logits.sum(), seen)
    assert gradient.abs().sum(-1).gt(0).all()


@pytest.mark.parametrize("latents", ["two", "single"])
@pytest.mark.parametrize(("depth", "h_depth"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_of_two_networks_halting_sees_every_cell(depth, h_depth, latents):
    """If either reads backwards too, the first position does; if none does, the last one alone."""
    mixer = MambaConfig(direction="alternating", expand=2, d_state=4)
    fields = {"networks": "separate", "num_layers": depth, "h_layers": h_depth, "latents": latents}
    model = small_model(mixer=mixer, h_cycles=1, l_cycles=1, **fields)
    assert [len(block.layers) for block in model.blocks] == [depth, h_depth]
    assert model.halting_position == ("last" if depth == h_depth == 1 else "first")
    with torch.no_grad():
        model.q_head.weight.fill_(1.0)
    seen = []
    model.embed_tokens.register_forward_hook(lambda _module, _args, out: seen.append(out))
    ((_, output),) = run(model, [1])
    (gradient,) = torch.autograd.grad(output.q_halt_logits.sum(), seen)
    assert gradient.abs().sum(-1).gt(0).all()


def test_bfloat16_is_close_to_float32_and_keeps_float32_weights():
    model = small_model(h_cycles=1)
    exact = run(model, [1])[0][1]
    model.forward_dtype = torch.bfloat16
    ((carry, rounded),) = run(model, [1])
    assert carry.z_H.dtype == rounded.logits.dtype == torch.bfloat16
    assert rounded.q_halt_logits.dtype == torch.float32
    rounded.logits.float().sum().backward()
    assert model.lm_head.weight.grad.dtype == torch.float32
    error = (rounded.logits.float() - exact.logits).norm() / exact.logits.norm()
    assert error < 0.1


def test_the_mlp_mixer_norms_over_tokens():
    mixer_norms = {
        kind: small_model(mixer=mixer).block.layers[0].mixer_norm_dims
        for kind, mixer in {"attention": AttentionConfig(num_heads=2), "mlp": MLPConfig()}.items()
    }
    assert mixer_norms == {"attention": [-1], "mlp": [-2]}


def test_rotary_tables_are_as_long_as_the_sequence():
    model = small_model()
    tables = [module for module in model.modules() if isinstance(module, RotaryEmbedding)]
    assert isinstance(model.block.layers[0].mixers[0], Attention)
    assert all(table.cos.shape == (11, 8) for table in tables)
