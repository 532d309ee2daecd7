"""Records an HRM in the format of the golden recordings, by a plain account of it that takes nothing of the
project's: HRM's forward pass, its halting and its loss (arXiv 2506.21734), by the reference's names.

Each of its steps is replayed from its recorded state.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CONFIG: dict[str, Any] = {
    "batch_size": 3, "num_puzzle_identifiers": 1, "halt_exploration_prob": 0.0, "forward_dtype": "float32",
    "H_layers": 1, "L_layers": 1, "H_cycles": 2, "L_cycles": 2, "seq_len": 16, "vocab_size": 6,
    "puzzle_emb_ndim": 16, "hidden_size": 16, "expansion": 4.0, "num_heads": 2, "pos_encodings": "rope",
    "halt_max_steps": 2,
}  # fmt: skip
STEPS, WIDTH = 3, 256  # WIDTH: of the SwiGLU, 2/3 x 4 x 16 rounded up to a multiple of 256
Weights = dict[str, Tensor]


def new_weights(config: dict[str, Any], generator: torch.Generator) -> Weights:
    size, vocabulary = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "H_init": (size,), "L_init": (size,), "puzzle_emb.weights": (1, config["puzzle_emb_ndim"]),
        "embed_tokens.embedding_weight": (vocabulary, size), "lm_head.weight": (vocabulary, size),
        "q_head.weight": (2, size), "q_head.bias": (2,),
    }  # fmt: skip
    for level in "HL":
        for i in range(config[f"{level}_layers"]):
            layer = f"{level}_level.layers.{i}"
            shapes |= {f"{layer}.self_attn.qkv_proj.weight": (3 * size, size)}
            shapes |= {f"{layer}.self_attn.o_proj.weight": (size, size)}
            shapes |= {f"{layer}.mlp.gate_up_proj.weight": (2 * WIDTH, size)}
            shapes |= {f"{layer}.mlp.down_proj.weight": (size, WIDTH)}
    tame = 0.5  # of the usual scale: rounding errors do not grow
    return {
        name: torch.randn(shape, generator=generator) * tame * shape[-1] ** -0.5
        for name, shape in shapes.items()
    }


def normed(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def attention(w: Weights, name: str, x: Tensor, num_heads: int) -> Tensor:
    rows, length, size = x.shape
    q, k, v = (x @ w[f"{name}.qkv_proj.weight"].T).view(rows, length, 3, num_heads, -1).unbind(2)
    half = size // num_heads // 2
    angle = torch.arange(length)[:, None] * 10000.0 ** -(torch.arange(half) / half)
    turned = []
    for each in (q, k):
        a, b = each[..., :half], each[..., half:]
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        turned.append(torch.cat((a * cos - b * sin, b * cos + a * sin), -1))
    scores = torch.einsum("blhd,bmhd->bhlm", *turned) / (2 * half) ** 0.5
    mixed = torch.einsum("bhlm,bmhd->blhd", scores.softmax(-1), v).reshape(rows, length, size)
    return mixed @ w[f"{name}.o_proj.weight"].T


def level(w: Weights, config: dict[str, Any], name: str, state: Tensor, injection: Tensor) -> Tensor:
    h = state + injection
    for i in range(config[f"{name}_layers"]):
        layer = f"{name}_level.layers.{i}"
        h = normed(h + attention(w, f"{layer}.self_attn", h, config["num_heads"]))
        gate, up = (h @ w[f"{layer}.mlp.gate_up_proj.weight"].T).chunk(2, -1)
        h = normed(h + (F.silu(gate) * up) @ w[f"{layer}.mlp.down_proj.weight"].T)
    return h


def think(w: Weights, config: dict[str, Any], z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """A supervision step; only the last update of each state has a gradient."""
    with torch.no_grad():
        for h in range(config["H_cycles"]):
            for low in range(config["L_cycles"]):
                if (h, low) != (config["H_cycles"] - 1, config["L_cycles"] - 1):
                    z_L = level(w, config, "L", z_L, z_H + x)
            if h != config["H_cycles"] - 1:
                z_H = level(w, config, "H", z_H, z_L)
    z_L = level(w, config, "L", z_L, z_H + x)
    return level(w, config, "H", z_H, z_L), z_L


def q_values(w: Weights, z_H: Tensor) -> tuple[Tensor, Tensor]:
    q_halt, q_continue = (z_H[:, 0] @ w["q_head.weight"].T + w["q_head.bias"]).unbind(-1)
    return q_halt, q_continue


def step(
    w: Weights, slots: Tensor, config: dict[str, Any], carry: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
    """The loss, what comes out, the next carry and the sums of the losses; `slots` (B, 1, D)."""
    x = torch.cat((slots, F.embedding(carry["inputs"], w["embed_tokens.embedding_weight"])), 1)
    x = x * config["hidden_size"] ** 0.5
    z_H, z_L = think(w, config, carry["z_H"], carry["z_L"], x)
    logits, (q_halt, q_continue) = (z_H @ w["lm_head.weight"].T)[:, 1:], q_values(w, z_H)
    steps = carry["steps"] + 1
    is_last = steps >= config["halt_max_steps"]
    with torch.no_grad():
        next_halt, next_continue = q_values(w, think(w, config, z_H, z_L, x)[0])
        target = torch.where(is_last, next_halt, torch.maximum(next_halt, next_continue)).sigmoid()
    scores = torch.where(logits < 0, 1 / (1 - logits.double().clamp(max=0)), logits.double() + 1)
    chances = (scores / scores.sum(-1, keepdim=True)).gather(-1, carry["labels"].long()[..., None])
    right = (logits.argmax(-1) == carry["labels"]).all(-1).float()
    bce = F.binary_cross_entropy_with_logits
    parts = {
        "lm_loss": -chances.log().mean((1, 2)).sum(),
        "q_halt_loss": bce(q_halt, right, reduction="sum"),
        "q_continue_loss": bce(q_continue, target, reduction="sum"),
    }
    loss = parts["lm_loss"] + 0.5 * (parts["q_halt_loss"] + parts["q_continue_loss"])
    outputs = {"logits": logits, "q_halt_logits": q_halt, "q_continue_logits": q_continue}
    outputs |= {"target_q_continue": target, "steps": steps, "halted": is_last | (q_halt > q_continue)}
    after = carry | {name: outputs[name] for name in ("steps", "halted")}
    after |= {"z_H": z_H.detach(), "z_L": z_L.detach()}
    return loss, outputs, after, {name: part.item() for name, part in (parts | {"loss": loss}).items()}


def fresh(w: Weights, carry: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Halted rows take the batch's puzzle, and begin at the initial states."""
    halted = carry["halted"]
    new = {"z_H": w["H_init"].expand_as(carry["z_H"]), "z_L": w["L_init"].expand_as(carry["z_L"]), **batch}
    new["steps"] = torch.zeros_like(carry["steps"])
    return {
        name: torch.where(halted.view(-1, *[1] * (value.ndim - 1)), new[name], value)
        for name, value in carry.items()
        if name != "halted"
    }


def record_hrm(stem: Path, **changes: Any) -> Path:
    """Write STEM.json and STEM.npz, and return STEM; `changes` are to CONFIG."""
    config = CONFIG | changes
    generator = torch.Generator().manual_seed(0)
    rows, length, size = config["batch_size"], config["seq_len"], config["hidden_size"]
    arrays: dict[str, np.ndarray] = {}

    def keep(prefix: str, tensors: dict[str, Tensor]) -> None:
        arrays.update({prefix + name: tensor.detach().clone().numpy() for name, tensor in tensors.items()})

    def board() -> Tensor:
        return torch.randint(1, config["vocab_size"], (rows, length), generator=generator, dtype=torch.int32)

    states = {name: torch.zeros(rows, 1 + length, size) for name in ("z_H", "z_L")}
    carry = states | {"steps": torch.zeros(rows, dtype=torch.int32), "halted": torch.ones(rows) > 0}
    carry |= {name: torch.zeros(rows, length, dtype=torch.int32) for name in ("inputs", "labels")}
    scalars = []
    for t in range(STEPS):
        weights = new_weights(config, generator)
        keep("init/inner." if t == 0 else f"step{t}/before/weights/inner.", weights)
        if t:
            keep(f"step{t}/before/", carry)
        batch = {"inputs": board(), "labels": board()}
        keep(f"step{t}/", batch)
        w = {name: value.requires_grad_(not name.endswith("_init")) for name, value in weights.items()}
        slots = w["puzzle_emb.weights"].detach().expand(rows, -1).clone().requires_grad_()
        loss, outputs, carry, sums = step(w, slots[:, None], config, fresh(w, carry, batch))
        (loss / rows).backward()
        keep(f"step{t}/", outputs)
        keep(f"step{t}/grad/inner.", {name: v.grad for name, v in w.items() if v.grad is not None})
        keep(f"step{t}/grad/", {"puzzle_emb_local": slots.grad})
        scalars.append(sums)
    np.savez(stem.with_suffix(".npz"), **arrays)
    case = {
        "config": config, "loss": "stablemax cross-entropy (float64)", "scalars": scalars, "ema_rate": 0.9,
        "optimizer": {"name": "AdamW", "lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 1.0},
        "puzzle_emb_optimizer": {"name": "SignSGD", "lr": 1e-3, "weight_decay": 1.0},
        "tolerance": dict.fromkeys(("logits", "q_logits", "grad", "loss"), 1e-4),
    }  # fmt: skip
    stem.with_suffix(".json").write_text(json.dumps(case))
    return stem
