"""TRM, the Tiny Recursive Model (arXiv 2510.04871), after the reference implementation.

Names here and in the paper (section 4, figure 3):

    block            net    the one small network, applied h_cycles x (l_cycles + 1) times a step;
    block_H          f_H    where networks are separate, the one that updates z_H (and block, f_L, only z_L)
    inputs           x      the puzzle's tokens; embedded, they are added at every update of z_L
    z_H              y      the answer, embedded; the output head reads the solution from it
    z_L              z      the latent reasoning state
    l_cycles         n      updates of z_L before each update of z_H
    h_cycles         T      recursions a supervision step, of which only the last one carries a gradient,
                            or its last two updates alone (the one-step gradient of HRM, arXiv 2506.21734)
    halt_max_steps   N_sup  supervision steps that a puzzle gets at most
    q_halt_logits    q_hat  > 0: the model holds its answer for right, and the puzzle may halt

The paper's ablations, and HRM, are values of `ModelConfig`: `networks` and `gradient` above;
`latents`, the states beside the answer (table 2; after the reference's code, as the paper has no formula):
    two          one, z
    single       none: z <- f(z + x), l_cycles times, then z <- f(z), and the heads read z
    multi_scale  one for each of the l_cycles updates: z_i <- f(sum of z, y + x), then y <- f(y, sum of z)
`act`, adaptive computation time:
    halt         a row may halt where q_halt_logits > 0
    continue     where q_halt_logits > q_continue_logits, which learn from a second forward pass (HRM, sec. 2)
    none         every row has all its steps, and the halting head is not trained
HRM is separate networks of 4 layers, the one-step gradient, and `continue`.

Shapes: B rows, L tokens of the puzzle, S = puzzle_emb_len + L tokens in all, D channels, V symbols, and n
latents where there are several.
One call of `TRM.forward` is one supervision step; the `Carry` takes the states from a step to the next one,
and every row halts by itself and is then given the puzzle that is offered in its place.
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
from trm.config import ModelConfig, TrialConfig
from trm.data.base import TaskShape
from trm.grid import Layout
from trm.layers import CastedEmbedding, CastedLinear, trunc_normal_


@dataclass
class Carry:
    """What a supervision step hands to the next one; nothing in it has a gradient."""

    z_H: Float[Tensor, "B S D"]
    z_L: Float[Tensor, "B *n S D"]  # of `single`, none: (B, 0, S, D)
    steps: Int[Tensor, " B"]  # supervision steps that the row's puzzle has had
    halted: Bool[Tensor, " B"]  # the row takes a new puzzle at the next step
    inputs: Integer[Tensor, "B L"]
    labels: Integer[Tensor, "B L"]


class Output(NamedTuple):
    logits: Float[Tensor, "B L V"]  # in the model's forward_dtype
    q_halt_logits: Float[Tensor, " B"]  # float32
    # Where q_continue is learned, in training: its value, and what it is to be.
    q_continue_logits: Float[Tensor, " B"] | None = None
    target_q_continue: Float[Tensor, " B"] | None = None


class PuzzleEmbedding(nn.Module):
    """Learned vectors that say which puzzle set a row is from, laid over the first tokens of `length` slots.

    Zero at first, and trained apart from the network (SignSGD, `trm.optim`), so that weight decay and EMA
    do not reach it. Every row uses identifier 0: the tasks here have one puzzle set each.
    """

    def __init__(self, num_identifiers: int, embedding_dim: int, length: int, hidden_size: int) -> None:
        super().__init__()
        self.length, self.hidden_size = length, hidden_size
        self.weights = nn.Parameter(torch.zeros(num_identifiers, embedding_dim))

    def forward(self, batch_size: int, dtype: torch.dtype) -> Float[Tensor, "B P D"]:
        row = self.weights[0].to(dtype)
        slots = F.pad(row, (0, self.length * self.hidden_size - row.numel()))
        return slots.view(1, self.length, self.hidden_size).expand(batch_size, -1, -1)


class TRM(nn.Module):
    """The recursive model. It computes in `forward_dtype` (float32 or bfloat16); weights are float32."""

    H_init: Tensor
    L_init: Tensor

    def __init__(self, config: ModelConfig, shape: TaskShape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.forward_dtype = torch.float32
        hidden_size = config.hidden_size
        self.seq_len = config.puzzle_emb_len + shape.seq_len
        self.embed_scale = hidden_size**0.5
        self.halting_position = config.mixer.halting_position(config.num_layers)

        self.embed_tokens = CastedEmbedding(shape.vocab_size, hidden_size, std=1 / self.embed_scale)
        self.puzzle_emb = (
            PuzzleEmbedding(shape.num_identifiers, hidden_size, config.puzzle_emb_len, hidden_size)
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
        self.block = Block(config, layout)
        self.block_H = Block(config, layout) if config.networks == "separate" else None
        self.lm_head = CastedLinear(hidden_size, shape.vocab_size)
        # Two outputs, q_halt and q_continue. TRM's recipe trains the first alone, and without ACT neither is
        # trained; they stay for the published parameter count.
        self.q_head = CastedLinear(hidden_size, 2, bias=True)
        with torch.no_grad():
            self.q_head.weight.zero_()
            self.q_head.get_parameter("bias").fill_(config.halt_bias)
        # Where z_H and z_L start: fixed random vectors, the same at every position, never trained.
        self.register_buffer("H_init", trunc_normal_(torch.empty(hidden_size), std=1.0))
        of_latents = (hidden_size,) if config.latents == "two" else (config.num_latents, 1, hidden_size)
        self.register_buffer("L_init", trunc_normal_(torch.empty(of_latents), std=1.0))

    @property
    def blocks(self) -> list[Block]:
        return [self.block] if self.block_H is None else [self.block, self.block_H]

    def network_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of the network: all but the puzzle embedding. AdamW and EMA work on these."""
        for name, parameter in self.named_parameters():
            if not name.startswith("puzzle_emb."):
                yield name, parameter

    def initial_carry(self, batch_size: int, device: torch.device | str) -> Carry:
        """A carry of which every row has halted, so that the first step takes every puzzle offered."""
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
        """Zeros, one state (S, D) or several a row, as many as `init` has vectors."""
        shape = (batch_size, *init.shape[:-2], self.seq_len, init.shape[-1])
        return torch.zeros(shape, dtype=self.forward_dtype, device=device)

    def forward(
        self,
        carry: Carry,
        inputs: Integer[Tensor, "B L"],
        labels: Integer[Tensor, "B L"],
        generator: torch.Generator | None = None,
    ) -> tuple[Carry, Output]:
        """One supervision step on the puzzles in the carry; halted rows first take theirs from the batch.

        `generator`, on the model's device, draws the halting exploration; needed in training where
        `halt_exploration_prob` is above 0. Raises ValueError where it is missing.
        """
        carry = self._take_new_puzzles(carry, inputs, labels)
        x = self.embed_inputs(carry.inputs)
        z_H, z_L = self.deep_recursion(carry.z_H, carry.z_L, x)
        logits = self.lm_head(z_H[:, self.config.puzzle_emb_len :])
        q_halt_logits, q_continue_logits = self.read_q(z_H)
        z_H, z_L, steps = z_H.detach(), z_L.detach(), carry.steps + 1
        output = Output(logits, q_halt_logits)
        if self.training and self.config.learns_to_continue:
            output = Output(
                logits, q_halt_logits, q_continue_logits, self._target_q_continue(z_H, z_L, x, steps)
            )
        halted = self._halts(steps, output, generator)
        return Carry(z_H, z_L, steps, halted, carry.inputs, carry.labels), output

    def _take_new_puzzles(self, carry: Carry, inputs: Tensor, labels: Tensor) -> Carry:
        """Reset the halted rows. The rows of the batch at the places of the others are not used, nor kept."""
        halted = carry.halted
        return Carry(
            z_H=_where_rows(halted, self.H_init.to(carry.z_H.dtype), carry.z_H),
            z_L=_where_rows(halted, self.L_init.to(carry.z_L.dtype), carry.z_L),
            steps=carry.steps.masked_fill(halted, 0),
            halted=halted,
            inputs=_where_rows(halted, inputs, carry.inputs),
            labels=_where_rows(halted, labels, carry.labels),
        )

    def embed_inputs(self, inputs: Integer[Tensor, "B L"]) -> Float[Tensor, "B S D"]:
        embedding = self.embed_tokens(inputs.int(), self.forward_dtype)
        if self.puzzle_emb is not None:
            slots = self.puzzle_emb(len(inputs), self.forward_dtype)
            embedding = torch.cat((slots, embedding), dim=1)
        if self.embed_pos is not None:  # scaled so that the sum keeps the variance of one of the two
            positions = self.embed_pos.embedding_weight.to(self.forward_dtype)
            embedding = 0.707106781 * (embedding + positions)
        return self.embed_scale * embedding

    def deep_recursion(self, z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """h_cycles recursions, a gradient through the last one only (paper, figure 3), or through its last
        two updates. z_H, z_L as in `Carry`, x (B, S, D)."""
        latents = [z_L] if self.config.latents == "two" else list(z_L.unbind(1))
        updates = [*range(self.config.l_cycles + 1)] * self.config.h_cycles
        start = len(updates) - self.config.updates_with_gradient
        with torch.no_grad():
            for i in updates[:start]:
                z_H = self._update(i, z_H, latents, x)
        for i in updates[start:]:
            z_H = self._update(i, z_H, latents, x)
        if self.config.latents == "two":
            return z_H, latents[0]
        return z_H, torch.stack(latents, dim=1) if latents else z_L

    def _update(self, i: int, z_H: Tensor, latents: list[Tensor], x: Tensor) -> Tensor:
        """Update i of a recursion; gives z_H. The first l_cycles change a latent, in the list, from question
        and answer, the last one the answer from the latents. Without any, the answer is the latent too."""
        of_answer = i == self.config.l_cycles
        if not latents:
            return self.blocks[-1](z_H, None) if of_answer else self.block(z_H, x)
        z_L = reduce(torch.add, latents)
        if of_answer:
            return self.blocks[-1](z_H, z_L)
        latents[i % len(latents)] = self.block(z_L, z_H + x)
        return z_H

    def _read(self, z_H: Tensor) -> Tensor:
        """What the halting head sees, (B, D).

        Deviation: the reference always reads position 0. Under a causal mixer that position never sees the
        puzzle, and halting would be blind; the mixer's config says which position sees all of it.
        """
        return z_H[:, 0 if self.halting_position == "first" else -1]

    def read_q(self, z_H: Tensor) -> tuple[Tensor, Tensor]:
        """q_halt_logits and q_continue_logits, each (B,) float32."""
        q_halt_logits, q_continue_logits = self.q_head(self._read(z_H)).float().unbind(-1)
        return q_halt_logits, q_continue_logits

    @torch.no_grad()
    def _target_q_continue(self, z_H: Tensor, z_L: Tensor, x: Tensor, steps: Tensor) -> Tensor:
        """What q_continue is to be, (B,) in [0, 1]: the better of the next step's two values; for a row that
        has had its last step, that of halting (HRM, arXiv 2506.21734, section 2)."""
        q_halt_logits, q_continue_logits = self.read_q(self.deep_recursion(z_H, z_L, x)[0])
        is_last = steps >= self.config.halt_max_steps
        best = torch.maximum(q_halt_logits, q_continue_logits)
        return torch.where(is_last, q_halt_logits, best).sigmoid()

    @torch.no_grad()
    def _halts(self, steps: Tensor, output: Output, generator: torch.Generator | None) -> Tensor:
        """Which rows halt after this step, (B,) bool. Evaluation never halts early, as in the reference."""
        max_steps = self.config.halt_max_steps
        halted = steps >= max_steps
        if not self.training or max_steps == 1 or self.config.act == "none":
            return halted
        least = 0 if output.q_continue_logits is None else output.q_continue_logits
        halted = halted | (output.q_halt_logits > least)
        exploration = self.config.halt_exploration_prob
        if exploration == 0:
            return halted
        if generator is None:
            raise ValueError(
                f"model.halt_exploration_prob is {exploration}, but forward() was given no generator to draw "
                f"from: pass a torch.Generator, or set it to 0"
            )
        # HRM (arXiv 2506.21734, section 2): with this probability a row goes on to a random minimum of steps.
        explores = torch.rand(steps.shape, generator=generator, device=steps.device) < exploration
        min_steps = torch.randint(2, max_steps + 1, steps.shape, generator=generator, device=steps.device)
        return halted & (~explores | (steps >= min_steps))


def _where_rows(rows: Bool[Tensor, " B"], new: Tensor, old: Tensor) -> Tensor:
    """`old` (B, ...) with these rows from `new`, which broadcasts to its shape."""
    return torch.where(rows.view(-1, *[1] * (old.ndim - 1)), new, old)


def build_model(config: TrialConfig, seed: int, device: torch.device | str) -> TRM:
    """A newly initialised model: equal seeds, equal weights, on every device. No generator is touched."""
    with torch.random.fork_rng(devices=[]):  # drawn on the CPU, so that the device changes nothing
        torch.default_generator.manual_seed(seed)
        model = TRM(config.model, config.data.shape)
    return model.to(device)
