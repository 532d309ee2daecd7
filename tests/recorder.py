"""Records a TRM in the format of the golden recordings, by a second, plain account of the recipe.

The model is the project's; loss, optimizers and average are written out anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tests.golden_trm import recorded_model
from trm.model import Carry, Output

CONFIG = {
    "batch_size": 4, "num_puzzle_identifiers": 1, "halt_exploration_prob": 0.0, "forward_dtype": "float32",
    "H_layers": 0, "seq_len": 5, "vocab_size": 6, "puzzle_emb_ndim": 16, "H_cycles": 2, "L_cycles": 2,
    "L_layers": 2, "hidden_size": 16, "expansion": 4.0, "num_heads": 2, "pos_encodings": "rope",
    "halt_max_steps": 2, "puzzle_emb_len": 3,
}  # fmt: skip
STEPS, LR, EMA_RATE = 2, 1e-3, 0.9
TOLERANCES = dict.fromkeys(("logits", "q_logits", "grad", "final", "ema", "eval_logits", "loss"), 1e-4)


def their_name(name: str, mlp_t: bool) -> str:
    mixer = ".mlp_t." if mlp_t else ".self_attn."
    return "inner." + name.replace("block.", "L_level.").replace(".mixer.", mixer)


def record_trm(stem: Path, **changes: Any) -> None:
    """Write STEM.json and STEM.npz; `changes` are to the configuration, `loss` to the loss's description."""
    loss_text = changes.pop("loss", "stablemax cross-entropy (float64)")
    config = CONFIG | changes
    generator = torch.Generator().manual_seed(0)
    model = recorded_model(config, is_hrm=False)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)  # tame: the replay runs free
    arrays: dict[str, np.ndarray] = {}

    def keep(prefix: str, tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            arrays[prefix + name] = tensor.detach().clone().numpy()

    def named(tensors: Any) -> dict[str, torch.Tensor]:
        return {their_name(name, config.get("mlp_t", False)): tensor for name, tensor in tensors}

    keep("init/", named(model.state_dict().items()))
    network = dict(model.network_parameters())
    adamw = torch.optim.AdamW(network.values(), lr=LR, betas=(0.9, 0.95), weight_decay=1.0)
    averages = {name: p.detach().clone() for name, p in network.items()}
    carry, scalars = model.initial_carry(config["batch_size"], "cpu"), []
    for t in range(STEPS):
        batch = puzzles(config, generator)
        keep(f"step{t}/", batch)
        carry, output = model(carry, **batch)
        loss, sums = plain_loss(carry, output, "softmax" in loss_text)
        model.zero_grad()
        (loss / config["batch_size"]).backward()
        keep(f"step{t}/", {"halted": carry.halted, "steps": carry.steps, **said(output)})
        keep(f"step{t}/grad/", named((name, p.grad) for name, p in network.items()))
        scalars.append(sums)
        adamw.step()
        with torch.no_grad():
            if model.puzzle_emb is not None:
                table = model.puzzle_emb.weights
                table.copy_(table - LR * table - LR * table.grad.sign())
            for name, p in network.items():
                averages[name] = EMA_RATE * averages[name] + (1 - EMA_RATE) * p
    keep("final/", named(model.state_dict().items()))
    keep("ema/", named(averages.items()))
    model.load_state_dict(averages, strict=False)
    evaluation = record_evaluation(model.eval(), config, generator, keep, "softmax" in loss_text)
    np.savez(stem.with_suffix(".npz"), **arrays)
    case = {
        "config": config, "loss": loss_text, "ema_rate": EMA_RATE, "scalars": scalars, "eval": evaluation,
        "optimizer": {"name": "AdamW", "lr": LR, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 1.0},
        "puzzle_emb_optimizer": {"name": "SignSGD", "lr": LR, "weight_decay": 1.0},
        "params": sum(p.numel() for p in network.values()), "tolerance": TOLERANCES,
    }  # fmt: skip
    stem.with_suffix(".json").write_text(json.dumps(case))


def said(output: Output) -> dict[str, torch.Tensor]:
    return {"logits": output.logits, "q_halt_logits": output.q_halt_logits}


def record_evaluation(model, config, generator, keep, softmax: bool) -> dict[str, float]:
    batch = puzzles(config, generator)
    keep("eval/", batch)
    carry = model.initial_carry(config["batch_size"], "cpu")
    for step in range(config["halt_max_steps"]):
        carry, output = model(carry, **batch)
        if step == 0:
            keep("eval/", {"first_step_logits": output.logits})
    keep("eval/", said(output))
    return plain_loss(carry, output, softmax)[1] | {"supervision_steps": config["halt_max_steps"]}


def puzzles(config: dict[str, Any], generator: torch.Generator) -> dict[str, torch.Tensor]:
    shape = (config["batch_size"], config["seq_len"])
    inputs, labels = (torch.randint(1, config["vocab_size"], shape, generator=generator) for _ in range(2))
    labels[0, 1:3] = -100
    return {"inputs": inputs.int(), "labels": labels.int()}


def plain_loss(carry: Carry, output: Any, softmax: bool) -> tuple[torch.Tensor, dict[str, float]]:
    """Row by row, without a mask."""
    lm_losses, targets = [], []
    for logits, labels in zip(output.logits.double(), carry.labels.long(), strict=True):
        logits, labels = logits[labels != -100], labels[labels != -100]
        stable = torch.where(logits < 0, 1 / (1 - logits.clamp(max=0)), logits + 1)
        scores = logits.exp() if softmax else stable
        probabilities = scores / scores.sum(-1, keepdim=True)
        lm_losses.append(-probabilities[range(len(labels)), labels].log().mean())
        targets.append(float((logits.argmax(-1) == labels).all()))
    lm_loss = torch.stack(lm_losses).sum()
    q_halt_loss = F.binary_cross_entropy_with_logits(
        output.q_halt_logits, torch.tensor(targets), reduction="sum"
    )
    loss = lm_loss + 0.5 * q_halt_loss
    return loss, {"loss": loss.item(), "lm_loss": lm_loss.item(), "q_halt_loss": q_halt_loss.item()}
