"""TRM, the Tiny Recursive Model (arXiv 2510.04871), after the reference implementation.

Names here and in the paper (section 4, figure 3):

    block            net    the one small network, applied h_cycles x (l_cycles + 1) times a step;
    block_H          f_H    with separate networks, the one that updates z_H (`block`, f_L, then only z_L)
    inputs           x      the puzzle's tokens; their embedding is added at every update of z_L
    z_H              y      the answer, embedded; the input of the output head
    z_L              z      the latent reasoning state
    l_cycles         n      updates of z_L before each update of z_H
    h_cycles         T      recursions a supervision step; the gradient goes through the last one only, or
                            through its last two updates (the one-step gradient of HRM, arXiv 2506.21734), or
                            through the updates that `gradient_h_cycles` and `gradient_l_cycles` name
    halt_max_steps   N_sup  the most supervision steps that a puzzle gets
    q_halt_logits    q_hat  > 0: the model predicts that its answer is right, and the row may halt

The paper's ablations, and HRM, are values of `ModelConfig`: `networks` and `gradient`, as above;
`latents`, the states beside the answer (table 2; after the reference's code, as the paper has no formula):
    two          one, z
    single       none: z <- f(z + x), l_cycles times, then z <- f(z); z is the heads' input
    multi_scale  one for each of the l_cycles updates: z_i <- f(sum of z, y + x), then y <- f(y, sum of z)
`act`, adaptive computation time:
    halt         a row may halt if q_halt_logits > 0
    continue     if q_halt_logits > q_continue_logits, whose target is a second forward pass (HRM, section 2)
    none         every row gets all halt_max_steps steps, and the halting head is not trained
Stabilisers, each 0 by default, where z is a state, f its update and e a standard normal:
    damping         z <- d z + (1 - d) f(z, ...), as in a damped fixed-point iteration (Mann 1953)
    latent_noise    z_L <- z_L + s e before each supervision step of the training; undamped z_L has an RMS
                    of one (training with noise: Bishop 1995)
    latent_dropout  z_L <- z_L m / (1 - p) before each, m being 0 with probability p (Srivastava et al. 2014)
HRM is separate networks of 4 layers, the one-step gradient, and `continue`; `h_layers` is the depth of its H
network, where that is not the L network's.

Shapes: B rows, L tokens of the puzzle, S = puzzle_emb_len + L tokens in all, D channels, V symbols, and n
latents if there is not exactly one.
One call of `TRM.forward` is one supervision step. The `Carry` holds the states between steps. Each row halts
on its own; a halted row takes the puzzle at its index of the next batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from trm.block import Block
from trm.config import TrialConfig
from trm.data.base import TaskShape
from trm.grid import Layout
from trm.layers import CastedEmbedding, CastedLinear, trunc_normal_
from trm.model_config import ModelConfig


@dataclass
class Carry:
    """The state between two supervision steps; nothing in it has a gradient."""

    z_H: Float[Tensor, "B S D"]
    z_L: Float[Tensor, "B *n S D"]  # (B, S, D) with one latent; with `single`, which has none, (B, 0, S, D)
    steps: Int[Tensor, " B"]  # supervision steps done on the row's current puzzle
    halted: Bool[Tensor, " B"]  # whether the row takes a new puzzle at the next step
    inputs: Integer[Tensor, "B L"]
    labels: Integer[Tensor, "B L"]

    def copy_(self, other: Carry) -> None:
        """Take over the values of `other`, in place."""
        for name, value in vars(other).items():
            getattr(self, name).copy_(value)

    def rows(self, which: slice) -> Carry:
        """Views of some of the rows."""
        return Carry(**{name: value[which] for name, value in vars(self).items()})


class Noise(NamedTuple):
    """What a training step draws. None: the config has no use for it."""

    explores: Bool[Tensor, " B"] | None = None  # with halting exploration these rows need
    min_steps: Int[Tensor, " B"] | None = None  # so many steps
    latent: Float[Tensor, "B *n S D"] | None = None  # standard normal
    kept: Bool[Tensor, "B *n S D"] | None = None  # entries of the latents that no dropout sets to 0

    def rows(self, which: slice) -> Noise:
        return Noise(*(None if value is None else value[which] for value in self))


class Output(NamedTuple):
    logits: Float[Tensor, "B L V"]  # in the model's forward_dtype
    q_halt_logits: Float[Tensor, " B"]  # float32
    # Only in training, and only if q_continue is learned: its value, and its target in [0, 1].
    q_continue_logits: Float[Tensor, " B"] | None = None
    target_q_continue: Float[Tensor, " B"] | None = None


class PuzzleEmbedding(nn.Module):
    """A learned vector for each puzzle set, which fills the first of `length` slots before the puzzle.

    It starts at zero and has its own optimizer (SignSGD, `trm.optim`); AdamW and EMA leave it out. A row
    without an identifier uses 0: each task here has one puzzle set.
    """

    def __init__(self, num_identifiers: int, embedding_dim: int, length: int, hidden_size: int) -> None:
        super().__init__()
        self.length, self.hidden_size = length, hidden_size
        self.weights = nn.Parameter(torch.zeros(num_identifiers, embedding_dim))

    def forward(
        self, batch_size: int, dtype: torch.dtype, identifiers: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B P D"]:
        rows = (self.weights[:1] if identifiers is None else self.weights[identifiers]).to(dtype)
        slots = F.pad(rows, (0, self.length * self.hidden_size - rows.shape[1]))
        return slots.view(-1, self.length, self.hidden_size).expand(batch_size, -1, -1)


class TRM(nn.Module):
    """The recursive model. It computes in `forward_dtype` (float32 or bfloat16); weights are float32."""

    H_init: Tensor
    L_init: Tensor

    def __init__(self, config: ModelConfig, shape: TaskShape, embedding_dim: int | None = None) -> None:
        """`embedding_dim` is the puzzle embedding's width, by default hidden_size; the reference lets it span
        several slots, or a part of one."""
        super().__init__()
        self.config, self.shape = config, shape
        self.forward_dtype = torch.float32
        hidden_size = config.hidden_size
        self.seq_len = config.puzzle_emb_len + shape.seq_len
        self.embed_scale = hidden_size**0.5
        self.halting_position = config.halting_position

        self.embed_tokens = CastedEmbedding(shape.vocab_size, hidden_size, std=1 / self.embed_scale)
        self.puzzle_emb = (
            PuzzleEmbedding(
                shape.num_identifiers, embedding_dim or hidden_size, config.puzzle_emb_len, hidden_size
            )
            if config.puzzle_emb_len
            else None
        )
        self.embed_pos = (
            CastedEmbedding(self.seq_len, hidden_size, std=1 / self.embed_scale)
            if config.pos_encodings == "learned"
            else None
        )
        layout = Layout(self.seq_len, shape.grid)
        config.mixer.check_grid(shape.grid)
        depth, *depth_H = config.depths
        self.block = Block(config, layout, depth)
        self.block_H = Block(config, layout, *depth_H) if depth_H else None
        self.lm_head = CastedLinear(hidden_size, shape.vocab_size)
        # Two outputs, q_halt and q_continue. TRM's recipe trains only the first, and without ACT neither is
        # trained; both are kept so that the parameter count is the published one.
        self.q_head = CastedLinear(hidden_size, 2, bias=True)
        with torch.no_grad():
            self.q_head.weight.zero_()
            self.q_head.get_parameter("bias").fill_(config.halt_bias)
        # Initial z_H and z_L: fixed random vectors, the same at every position, never trained.
        self.register_buffer("H_init", trunc_normal_(torch.empty(hidden_size), std=1.0))
        latent_shape = (hidden_size,) if config.latents == "two" else (config.num_latents, 1, hidden_size)
        self.register_buffer("L_init", trunc_normal_(torch.empty(latent_shape), std=1.0))

    @property
    def blocks(self) -> list[Block]:
        return [self.block] if self.block_H is None else [self.block, self.block_H]

    @property
    def explores(self) -> bool:
        """Whether training draws a minimum number of steps for some rows."""
        config = self.config
        return config.learns_to_halt and config.halt_max_steps > 1 and config.halt_exploration_prob > 0

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> Noise | None:
        """The noise of a training step, on the generator's device; None if the config has no use for it.

        HRM (arXiv 2506.21734, section 2): with probability `halt_exploration_prob` a row needs a minimum of
        steps, uniform from 2 to halt_max_steps.
        """
        config, device, noise = self.config, generator.device, Noise()
        if self.explores:
            drawn = torch.rand(batch_size, generator=generator, device=device)
            min_steps = torch.randint(
                2, config.halt_max_steps + 1, (batch_size,), generator=generator, device=device
            )
            noise = noise._replace(explores=drawn < config.halt_exploration_prob, min_steps=min_steps)
        shape = (batch_size, *self._state_shape(self.L_init))
        if config.latent_noise:
            noise = noise._replace(latent=torch.randn(shape, generator=generator, device=device))
        if config.latent_dropout:
            drawn = torch.rand(shape, generator=generator, device=device)
            noise = noise._replace(kept=drawn >= config.latent_dropout)
        return noise if self.explores or config.disturbs_latents else None

    def network_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of all but the puzzle embedding: what AdamW trains and EMA averages."""
        for name, parameter in self.named_parameters():
            if not name.startswith("puzzle_emb."):
                yield name, parameter

    def initial_carry(self, batch_size: int, device: torch.device | str) -> Carry:
        """A carry whose rows have all halted, so that the first step takes every puzzle of its batch."""
        tokens = torch.zeros(batch_size, self.shape.seq_len, dtype=torch.uint8, device=device)
        return Carry(
            z_H=self._states(self.H_init, batch_size, device),
            z_L=self._states(self.L_init, batch_size, device),
            steps=torch.zeros(batch_size, dtype=torch.int32, device=device),
            halted=torch.ones(batch_size, dtype=torch.bool, device=device),
            inputs=tokens,
            labels=tokens.clone(),
        )

    def _states(self, init: Tensor, batch_size: int, device: torch.device | str) -> Tensor:
        """Zeros for each row."""
        return torch.zeros(batch_size, *self._state_shape(init), dtype=self.forward_dtype, device=device)

    def _state_shape(self, init: Tensor) -> tuple[int, ...]:
        """Of a row: as many states (S, D) as `init` has vectors."""
        return (*init.shape[:-2], self.seq_len, init.shape[-1])

    def forward(
        self,
        carry: Carry,
        inputs: Integer[Tensor, "B L"],
        labels: Integer[Tensor, "B L"],
        noise: Noise | None = None,
        identifiers: Int[Tensor, " B"] | None = None,
    ) -> tuple[Carry, Output]:
        """One supervision step on the carry's puzzles; halted rows first take a new puzzle from the batch.

        A pure function of its tensors. `identifiers` are the puzzle embedding's rows for the carry's puzzles;
        without it all rows use 0. `noise` is what `draw_noise` returns. Training requires it where the config
        draws some; raises ValueError if it is missing.
        """
        carry = self._take_new_puzzles(carry, inputs, labels)
        x = self.embed_inputs(carry.inputs, identifiers)
        z_H, z_L = self.deep_recursion(carry.z_H, self._disturbed(carry.z_L, noise), x)
        logits = self.lm_head(z_H[:, self.config.puzzle_emb_len :])
        q_halt_logits, q_continue_logits = self.q_logits(z_H)
        z_H, z_L, steps = z_H.detach(), z_L.detach(), carry.steps + 1
        output = Output(logits, q_halt_logits)
        if self.training and self.config.learns_to_continue:
            output = Output(
                logits, q_halt_logits, q_continue_logits, self._target_q_continue(z_H, z_L, x, steps)
            )
        halted = self._halts(steps, output, noise)
        return Carry(z_H, z_L, steps, halted, carry.inputs, carry.labels), output

    def _take_new_puzzles(self, carry: Carry, inputs: Tensor, labels: Tensor) -> Carry:
        """Start the batch's puzzles in the rows that have halted; its other puzzles are discarded."""
        halted = carry.halted
        return Carry(
            z_H=_where_rows(halted, self.H_init.to(carry.z_H.dtype), carry.z_H),
            z_L=_where_rows(halted, self.L_init.to(carry.z_L.dtype), carry.z_L),
            steps=carry.steps.masked_fill(halted, 0),
            halted=halted,
            inputs=_where_rows(halted, inputs, carry.inputs),
            labels=_where_rows(halted, labels, carry.labels),
        )

    def embed_inputs(
        self, inputs: Integer[Tensor, "B L"], identifiers: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B S D"]:
        embedding = self.embed_tokens(inputs.int(), self.forward_dtype)
        if self.puzzle_emb is not None:
            slots = self.puzzle_emb(len(inputs), self.forward_dtype, identifiers)
            embedding = torch.cat((slots, embedding), dim=1)
        if self.embed_pos is not None:  # sqrt(1/2): the sum has the variance of one of the two
            positions = self.embed_pos.embedding_weight.to(self.forward_dtype)
            embedding = 0.707106781 * (embedding + positions)
        return self.embed_scale * embedding

    def deep_recursion(self, z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """h_cycles recursions, with gradients for the updates that are `backpropagated` only (figure 3).

        Takes and returns z_H and z_L with the shapes of `Carry`; x is (B, S, D).
        """
        latents = [z_L] if self.config.latents == "two" else list(z_L.unbind(1))
        h_cycles, l_cycles = self.config.h_cycles, self.config.l_cycles
        recursions, updates = self.config.backpropagated
        for recursion in range(h_cycles):
            for i in range(l_cycles + 1):
                is_backpropagated = recursion >= h_cycles - recursions and i >= l_cycles - updates
                with torch.set_grad_enabled(is_backpropagated and torch.is_grad_enabled()):
                    z_H = self._update(i, z_H, latents, x)
        if self.config.latents == "two":
            return z_H, latents[0]
        return z_H, torch.stack(latents, dim=1) if latents else z_L

    def _update(self, i: int, z_H: Tensor, latents: list[Tensor], x: Tensor) -> Tensor:
        """Apply update i of a recursion and return z_H.

        Updates 0 to l_cycles - 1 replace a latent in the list, from question and answer; the last update
        computes the answer from the latents. Without latents, z_H is both.
        """
        is_answer_update = i == self.config.l_cycles
        if not latents:
            # Zeros instead of no injection: the compiler makes a graph for each kind of argument.
            new = self.blocks[-1](z_H, torch.zeros_like(x)) if is_answer_update else self.block(z_H, x)
            return self._damped(z_H, new)
        z_L = reduce(torch.add, latents)
        if is_answer_update:
            return self._damped(z_H, self.blocks[-1](z_H, z_L))
        own = i % len(latents)
        latents[own] = self._damped(latents[own], self.block(z_L, z_H + x))
        return z_H

    def _damped(self, old: Tensor, new: Tensor) -> Tensor:
        return torch.lerp(new, old, self.config.damping) if self.config.damping else new

    def _disturbed(self, z_L: Tensor, noise: Noise | None) -> Tensor:
        """The latents with a training step's dropout and noise."""
        config = self.config
        if not self.training or not config.disturbs_latents:
            return z_L
        noise = noise or Noise()
        if config.latent_dropout:
            kept = _drawn(noise.kept, "latent_dropout", config.latent_dropout)
            z_L = torch.where(kept, z_L / (1 - config.latent_dropout), 0.0)
        if config.latent_noise:
            drawn = _drawn(noise.latent, "latent_noise", config.latent_noise)
            z_L = z_L + config.latent_noise * drawn.to(z_L.dtype)
        return z_L

    def _halting_state(self, z_H: Tensor) -> Tensor:
        """The input of the halting head, (B, D): z_H at the halting position.

        Deviation: the reference always takes position 0. In a causal mixer position 0 depends on no token of
        the puzzle; the mixer's config names the position that depends on all of them.
        """
        return z_H[:, 0 if self.halting_position == "first" else -1]

    def q_logits(self, z_H: Tensor) -> tuple[Tensor, Tensor]:
        """q_halt_logits and q_continue_logits, each (B,) float32."""
        q_halt_logits, q_continue_logits = self.q_head(self._halting_state(z_H)).float().unbind(-1)
        return q_halt_logits, q_continue_logits

    @torch.no_grad()
    def _target_q_continue(self, z_H: Tensor, z_L: Tensor, x: Tensor, steps: Tensor) -> Tensor:
        """The target of q_continue, (B,) in [0, 1] (HRM, arXiv 2506.21734, section 2).

        It is the larger of the next step's q_halt and q_continue; after a row's last step it is q_halt.
        """
        q_halt_logits, q_continue_logits = self.q_logits(self.deep_recursion(z_H, z_L, x)[0])
        is_last = steps >= self.config.halt_max_steps
        best = torch.maximum(q_halt_logits, q_continue_logits)
        return torch.where(is_last, q_halt_logits, best).sigmoid()

    @torch.no_grad()
    def _halts(self, steps: Tensor, output: Output, noise: Noise | None) -> Tensor:
        """Which rows halt after this step, (B,) bool. Evaluation never halts early, as in the reference."""
        max_steps = self.config.halt_max_steps
        halted = steps >= max_steps
        if not self.training or max_steps == 1 or self.config.act == "none":
            return halted
        threshold = 0 if output.q_continue_logits is None else output.q_continue_logits
        halted = halted | (output.q_halt_logits > threshold)
        if not self.explores:
            return halted
        noise, probability = noise or Noise(), self.config.halt_exploration_prob
        explores = _drawn(noise.explores, "halt_exploration_prob", probability)
        min_steps = _drawn(noise.min_steps, "halt_exploration_prob", probability)
        return halted & (~explores | (steps >= min_steps))


def _drawn(value: Tensor | None, key: str, setting: float) -> Tensor:
    """A part of the noise. Raises ValueError if it is missing."""
    if value is None:
        raise ValueError(
            f"model.{key} is {setting}, but forward() was not given what it draws: pass the noise that "
            f"draw_noise() returns, or set it to 0"
        )
    return value


def _where_rows(rows: Bool[Tensor, " B"], new: Tensor, old: Tensor) -> Tensor:
    """`old`, (B, ...), with the rows where `rows` is true taken from `new`, which broadcasts to its shape."""
    return torch.where(rows.view(-1, *[1] * (old.ndim - 1)), new, old)


def build_model(config: TrialConfig, seed: int, device: torch.device | str) -> TRM:
    """A newly initialised model. Equal seeds give equal weights on every device.

    The state of torch's global generators is left as it was.
    """
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU, so the device changes nothing
        torch.default_generator.manual_seed(seed)
        model = TRM(config.model, config.data.shape)
    return model.to(device)
