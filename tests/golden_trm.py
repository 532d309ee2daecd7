"""Recordings of the reference TRM and HRM, repeated: free-running, or each step from its recorded state."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.replay import Arrays, BadRecording, Comparison
from trm.config import LossConfig, OptimConfig
from trm.data.base import TaskShape
from trm.losses import SUMS, supervision_loss
from trm.model import TRM, Carry, Output
from trm.optim import Optimizers
from trm.reference import our_name
from trm.reference_config import model_config
from trm.weights import EMA

# The reference's names on the left. Its losses and metrics are sums over the batch, as ours are.
RENAMED_SCALARS = {"accuracy": "cell_accuracy", "steps": "halt_steps"}
LOSSES = ("loss", "lm_loss", "q_halt_loss", "q_continue_loss")
COUNTS = ("count", "accuracy", "exact_accuracy", "q_halt_accuracy", "steps")


def under(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    """The arrays below `prefix`, as tensors under our names."""
    names = [name for name in arrays if name.startswith(prefix)]
    tensors = {name.removeprefix(prefix): torch.from_numpy(arrays[name]) for name in names}
    return {our_name(name.removeprefix("inner.")): tensor for name, tensor in tensors.items()}


class Replay:
    """A TRM as recorded, with its optimizers and its average."""

    def __init__(self, case: dict[str, Any], arrays: Arrays) -> None:
        self.case, self.arrays, self.config = case, arrays, case["config"]
        self.model = recorded_model(self.config, is_hrm=any("H_level" in name for name in arrays))
        self.load_weights("init/")
        self.loss = LossConfig(kind="softmax" if "softmax" in case["loss"] else "stablemax")
        self.optimizers = recorded_optimizers(self.model, case)
        self.ema = EMA(self.model, case["ema_rate"])
        self.q_logits: Tensor  # both of the head's outputs at the latest step
        self.slots: Tensor  # the puzzle embedding as each row got it there, with its gradient
        self.model.q_head.register_forward_hook(self._keep_q_logits)
        if self.model.puzzle_emb is not None:
            self.model.puzzle_emb.register_forward_hook(self._keep_slots)
        self.num_steps = len({k.split("/")[0] for k in arrays if re.match(r"step\d+/", k)})
        self.stepwise = any(re.match(r"step\d+/before/", k) for k in arrays)

    def _keep_q_logits(self, _module: Any, _args: Any, q_logits: Tensor) -> None:
        self.q_logits = q_logits

    def _keep_slots(self, _module: Any, _args: Any, slots: Tensor) -> Tensor | None:
        if not slots.requires_grad:
            return None
        self.slots = slots.clone()
        self.slots.retain_grad()
        return self.slots

    def load_weights(self, *prefixes: str) -> None:
        """Weights and buffers from the arrays under these prefixes, the later over the earlier."""
        weights: dict[str, Tensor] = {}
        for prefix in prefixes:
            weights |= under(self.arrays, prefix)
        self.model.load_state_dict(weights)

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def step(self, carry: Carry, where: str) -> tuple[Carry, Output, Tensor, dict[str, Tensor]]:
        carry, output = self.model(carry, self.tensor(f"{where}/inputs"), self.tensor(f"{where}/labels"))
        loss, sums = supervision_loss(output, carry, self.loss)
        return carry, output, loss, dict(zip(SUMS, sums, strict=True))

    def gradient(self, name: str) -> Tensor:
        """By our name; `puzzle_emb_local` is what each row's copy of the puzzle embedding gets."""
        if name == "puzzle_emb_local":
            assert self.model.puzzle_emb is not None
            per_row = self.slots.grad.flatten(1)
            return per_row[:, : self.model.puzzle_emb.weights.shape[1]]
        parameter = self.model.get_parameter(name)
        return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

    def recorded_carry(self, where: str) -> Carry:
        before = {name: self.tensor(f"{where}/before/{name}") for name in Carry.__annotations__}
        return Carry(**before)


def replay_trm(case: dict[str, Any], arrays: Arrays, compare: Comparison) -> None:
    """Train as recorded, from the first weights (free-running) or from each step's state; then evaluate."""
    replay = Replay(case, arrays)
    model = replay.model
    num_params = sum(p.numel() for _, p in model.network_parameters())
    if "params" in case and num_params != case["params"]:
        raise BadRecording(f"the network has {num_params} parameters, recorded are {case['params']}")
    if not replay.num_steps:
        raise BadRecording("it has no step")
    batch_size = len(replay.tensor("step0/inputs"))
    carry = model.initial_carry(batch_size, "cpu")
    model.train()
    for t in range(replay.num_steps):
        where = f"step{t}"
        if replay.stepwise and t > 0:
            replay.load_weights(f"{where}/before/weights/")
            carry = replay.recorded_carry(where)
        carry, output, loss, metrics = replay.step(carry, where)
        replay.optimizers.zero_grad()
        (loss / batch_size).backward()
        compare_step(replay, where, carry, output, compare)
        compare_scalars(where, metrics, case["scalars"][t], compare)
        if not replay.stepwise:
            replay.optimizers.set_rates(t + 1)
            replay.optimizers.step()
            replay.ema.update(model)
    if not replay.stepwise:
        compare_weights(replay, compare)
    evaluate(replay, compare)


def compare_step(replay: Replay, where: str, carry: Carry, output: Output, compare: Comparison) -> None:
    names = ("halted", "steps", "logits", "q_halt_logits")
    recorded = {name: replay.arrays[f"{where}/{name}"] for name in names}
    compare.equal(f"{where}/halted", carry.halted, recorded["halted"])
    compare.equal(f"{where}/steps", carry.steps, recorded["steps"])
    compare.close(f"{where}/logits", "logits", output.logits, recorded["logits"])
    compare.close(f"{where}/q_halt_logits", "q_logits", output.q_halt_logits, recorded["q_halt_logits"])
    name = f"{where}/q_continue_logits"
    if name in replay.arrays:
        computed = output.q_continue_logits
        computed = replay.q_logits[:, 1] if computed is None else computed  # not in the output if not learned
        compare.close(name, "q_logits", computed, replay.arrays[name])
    name = f"{where}/target_q_continue"
    if name in replay.arrays:
        compare.close(name, "q_logits", output.target_q_continue, replay.arrays[name])
    for name, gradient in under(replay.arrays, f"{where}/grad/").items():
        compare.close(f"{where}/grad/{name}", "grad", replay.gradient(name), gradient)


def compare_scalars(
    where: str, metrics: dict[str, Tensor], recorded: dict[str, float], compare: Comparison
) -> None:
    for name in (*LOSSES, *COUNTS):
        if name in recorded:
            compare.close(f"{where}/{name}", "loss", metrics[RENAMED_SCALARS.get(name, name)], recorded[name])


def compare_weights(replay: Replay, compare: Comparison) -> None:
    state = replay.model.state_dict()
    for name, weight in under(replay.arrays, "final/").items():
        compare.close(f"final/{name}", "final", state[name], weight)
    with replay.ema.swapped(replay.model):
        averaged = {name: p.detach().clone() for name, p in replay.model.named_parameters()}
    for name, weight in under(replay.arrays, "ema/").items():
        compare.close(f"ema/{name}", "ema", averaged[name], weight)


@torch.no_grad()
def evaluate(replay: Replay, compare: Comparison) -> None:
    """One batch with the averaged weights and the current puzzle embedding; only a step where stepwise."""
    if "eval/inputs" not in replay.arrays:
        return
    model, arrays, recorded = replay.model.eval(), replay.arrays, replay.case.get("eval", {})
    first_kind = "eval_first_step_logits" if "eval_first_step_logits" in compare.tolerances else "eval_logits"
    if replay.stepwise:
        replay.load_weights("final/", "ema/")
    with nullcontext() if replay.stepwise else replay.ema.swapped(model):
        carry = model.initial_carry(len(arrays["eval/inputs"]), "cpu")
        carry, output, _, metrics = replay.step(carry, "eval")
        compare.close("eval/first_step_logits", first_kind, output.logits, arrays["eval/first_step_logits"])
        if replay.stepwise:
            return
        steps = 1
        while not carry.halted.all():
            carry, output, _, metrics = replay.step(carry, "eval")
            steps += 1
    compare.equal("eval/supervision_steps", torch.tensor(steps), np.array(recorded["supervision_steps"]))
    compare.close("eval/logits", "eval_logits", output.logits, arrays["eval/logits"])
    compare.close("eval/q_halt_logits", "q_logits", output.q_halt_logits, arrays["eval/q_halt_logits"])
    compare_scalars("eval", metrics, recorded, compare)


def recorded_model(config: dict[str, Any], is_hrm: bool) -> TRM:
    """The model of a configuration with the reference's keys, and its defaults where a key is missing."""
    if config.get("forward_dtype", "float32") != "float32":
        raise BadRecording(f"forward_dtype is {config['forward_dtype']}; only float32 can be replayed")
    network, embedding_dim = model_config(config, is_hrm), config["puzzle_emb_ndim"]  # 0: it has none
    shape = TaskShape(config["vocab_size"], config["seq_len"], config["num_puzzle_identifiers"])
    with torch.random.fork_rng(devices=[]):
        return TRM(network, shape, embedding_dim)


def recorded_optimizers(model: TRM, case: dict[str, Any]) -> Optimizers:
    adamw, sign_sgd = case["optimizer"], case["puzzle_emb_optimizer"]
    if adamw["name"] != "AdamW" or not sign_sgd["name"].startswith("SignSGD"):
        names = f"{adamw['name']!r} and {sign_sgd['name']!r}"
        raise BadRecording(f"its optimizers are {names}; this project has AdamW and SignSGD only")
    config = OptimConfig(
        lr=adamw["lr"],
        betas=tuple(adamw["betas"]),
        eps=adamw["eps"],
        weight_decay=adamw["weight_decay"],
        puzzle_emb_lr=sign_sgd["lr"],
        puzzle_emb_weight_decay=sign_sgd["weight_decay"],
        ema_decay=case["ema_rate"],
    )
    return Optimizers(model, config, max_steps=1, warmup_steps=0)
