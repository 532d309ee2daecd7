"""A training step beside a plain composition of the reference's: `python -m benchmarks.reference_step`.

The reference implementation of TRM, in the plain PyTorch that it is written in, from its description alone:
norms, rotary positions and losses of single operations, a dictionary of metrics, AdamW and a loop for the
averages. It computes with the weights of a model of `trm`, so that both take the same step. One thread, the
published recipe at 256 channels and 16 rows, rounds in turn. Printed as JSON: the median of a step, and how
many times as fast the trainer's own step is.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.training_step import config_of, seconds_a_step
from trm.batches import derive_seed
from trm.config import TrialConfig
from trm.loop import Trainer
from trm.model import Carry
from trm.trial import NullTrial

PUBLISHED = Path(__file__).resolve().parent.parent / "search_spaces/base/trm_sudoku.yaml"
SMALL = ["model.hidden_size=256", "train.batch_size=16"]
KINDS = ("attention", "mlp")  # the reference's
EPS = 1e-5


class ReferenceTrainer(Trainer):
    """A trainer whose step is the reference's. Data, weights, carry and random numbers are the trainer's."""

    def __init__(self, config: TrialConfig, trial: NullTrial) -> None:
        super().__init__(config, trial)
        network = [p for _, p in self.model.network_parameters()]
        optim = config.optim
        self.adamw = torch.optim.AdamW(
            network, lr=optim.lr, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay
        )
        self.shadow = {name: p.detach().clone() for name, p in self.model.network_parameters()}

    def train_step(self, step: int) -> None:
        inputs, labels = self.batches(step)
        self.generator.manual_seed(derive_seed(self.trial.seed, "halting", step))
        self.carry, loss, self.metrics = self._forward(inputs.int(), labels.int())
        (loss / len(inputs)).backward()
        self.optimizers.set_rates(step)
        for group in self.adamw.param_groups:
            group["lr"] = self.optimizers.lr
        self.adamw.step()
        self._sign_sgd()
        self.model.zero_grad()
        decay = self.config.optim.ema_decay
        for name, p in self.model.network_parameters():
            self.shadow[name] = (1 - decay) * p.detach() + decay * self.shadow[name]
        self.step = step

    @torch.no_grad()
    def _sign_sgd(self) -> None:
        optim = self.config.optim
        rate = self.optimizers.lr * optim.puzzle_emb_lr / optim.lr  # one schedule for both
        weights = self.model.puzzle_emb.weights
        weights.mul_(1 - rate * optim.puzzle_emb_weight_decay).add_(weights.grad.sign(), alpha=-rate)

    def _forward(self, inputs: Tensor, labels: Tensor) -> tuple[Carry, Tensor, dict[str, Tensor]]:
        model, carry, halted = self.model, self.carry, self.carry.halted
        rows = halted.view(-1, 1, 1)
        z_H, z_L = torch.where(rows, model.H_init, carry.z_H), torch.where(rows, model.L_init, carry.z_L)
        steps = torch.where(halted, 0, carry.steps)
        inputs = torch.where(halted.view(-1, 1), inputs, carry.inputs)
        labels = torch.where(halted.view(-1, 1), labels, carry.labels)
        x = self._embedded(inputs)
        with torch.no_grad():
            for _ in range(model.config.h_cycles - 1):
                z_H, z_L = self._recursion(z_H, z_L, x)
        z_H, z_L = self._recursion(z_H, z_L, x)
        logits = F.linear(z_H, model.lm_head.weight)[:, model.config.puzzle_emb_len :]
        q_halt = F.linear(z_H[:, 0], model.q_head.weight, model.q_head.bias)[..., 0]
        steps = steps + 1
        halted = self._halts(steps, q_halt.detach())
        loss, metrics = _loss(logits, q_halt, labels, halted, steps, self.config.loss.q_weight)
        return Carry(z_H.detach(), z_L.detach(), steps, halted, inputs, labels), loss, metrics

    def _embedded(self, inputs: Tensor) -> Tensor:
        model = self.model
        embedding = F.embedding(inputs, model.embed_tokens.embedding_weight)
        slots = model.puzzle_emb.weights.expand(len(inputs), -1)
        slots = F.pad(slots, (0, model.puzzle_emb.length * embedding.shape[-1] - slots.shape[-1]))
        slots = slots.view(len(inputs), model.puzzle_emb.length, -1)
        return model.embed_scale * torch.cat((slots, embedding), dim=-2)

    def _recursion(self, z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(self.model.config.l_cycles):
            z_L = self._block(z_L, z_H + x)
        return self._block(z_H, z_L), z_L

    def _block(self, hidden: Tensor, injection: Tensor) -> Tensor:
        hidden = hidden + injection
        for layer in self.model.block.layers:
            (mixer,) = layer.mixers
            if self.model.config.mixer.kind == "mlp":
                hidden = hidden.transpose(1, 2)
                hidden = _norm(hidden + _swiglu(hidden, mixer))
                hidden = hidden.transpose(1, 2)
            else:
                hidden = _norm(hidden + _attention(hidden, mixer))
            hidden = _norm(hidden + _swiglu(hidden, layer.mlp))
        return hidden

    def _halts(self, steps: Tensor, q_halt: Tensor) -> Tensor:
        config = self.model.config
        drawn = torch.rand(len(steps), generator=self.generator)
        least = torch.randint(2, config.halt_max_steps + 1, (len(steps),), generator=self.generator)
        least = (drawn < config.halt_exploration_prob) * least
        return ((steps >= config.halt_max_steps) | (q_halt > 0)) & (steps >= least)


def _norm(x: Tensor) -> Tensor:
    x = x.to(torch.float32)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def _swiglu(x: Tensor, mlp: nn.Module) -> Tensor:
    gate, up = F.linear(x, mlp.gate_up_proj.weight).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, mlp.down_proj.weight)


def _attention(x: Tensor, mixer: nn.Module) -> Tensor:
    rows, length, _ = x.shape
    heads = mixer.num_heads
    qkv = F.linear(x, mixer.qkv_proj.weight).view(rows, length, 3 * heads, -1)
    q, k, v = qkv[:, :, :heads], qkv[:, :, heads : 2 * heads], qkv[:, :, 2 * heads :]
    q, k = (_rotated(each, *mixer.rope()) for each in (q, k))
    q, k, v = (each.permute(0, 2, 1, 3) for each in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v).permute(0, 2, 1, 3)
    return F.linear(y.reshape(rows, length, -1), mixer.o_proj.weight)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, other = x.chunk(2, dim=-1)
    return x * cos.unsqueeze(-2) + torch.cat((-other, one), dim=-1) * sin.unsqueeze(-2)


def _loss(
    logits: Tensor, q_halt: Tensor, labels: Tensor, halted: Tensor, steps: Tensor, q_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    mask = labels > 0
    counts = mask.sum(-1)
    divisor = counts.clamp_min(1).unsqueeze(-1)
    with torch.no_grad():
        is_right = mask & (logits.argmax(-1) == labels)
        solved = is_right.sum(-1) == counts
        valid = halted & (counts > 0)
        metrics = {
            "count": valid.sum(),
            "accuracy": torch.where(valid, (is_right.float() / divisor).sum(-1), 0).sum(),
            "exact_accuracy": (valid & solved).sum(),
            "q_halt_accuracy": (valid & ((q_halt >= 0) == solved)).sum(),
            "steps": torch.where(valid, steps, 0).sum(),
        }
    wide = logits.to(torch.float64)
    scores = torch.where(wide < 0, 1 / (1 - wide + 1e-30), wide + 1)
    log_probs = torch.log(scores / scores.sum(-1, keepdim=True))
    taken = log_probs.gather(-1, torch.where(mask, labels, 0).long().unsqueeze(-1)).squeeze(-1)
    lm_loss = (-torch.where(mask, taken, 0) / divisor).sum()
    q_loss = F.binary_cross_entropy_with_logits(q_halt, solved.to(q_halt.dtype), reduction="sum")
    return lm_loss + q_weight * q_loss, metrics | {"lm_loss": lm_loss.detach(), "q_loss": q_loss.detach()}


def measure(config: TrialConfig, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds of a step in each way, and the ratio of the medians."""
    ways = {"trainer": Trainer, "reference": ReferenceTrainer}
    trainers = {name: made(config, NullTrial("cpu")) for name, made in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for trainer in trainers.values():
        trainer.model.train()
        seconds_a_step(trainer, 2)
    for _ in range(rounds):
        for name, trainer in trainers.items():
            times[name] += [seconds_a_step(trainer, 1) for _ in range(steps)]
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    found = {f"{name}_ms": round(1000 * median, 2) for name, median in medians.items()}
    return found | {"times as fast": round(medians["reference"] / medians["trainer"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3, help="a round")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        kind: measure(config_of(PUBLISHED, kind, [*SMALL, *given.overrides]), given.rounds, given.steps)
        for kind in KINDS
    }
    about = {"on": "1 CPU thread", "torch": str(torch.__version__), "changed": [*SMALL, *given.overrides]}
    print(json.dumps(about | found, indent=2))


if __name__ == "__main__":
    main()
