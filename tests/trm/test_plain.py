"""A training step of the fast code is that of its papers' operations, one after the other."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.trm.plain import compose_plainly, unbound_scan
from trm.config import TrialConfig
from trm.losses import supervision_loss
from trm.model import TRM, build_model

DIRECTIONS = ("forward", "alternating", "bidirectional_tied", "bidirectional", "bidirectional_own")
MIXERS = [
    {"kind": "attention", "num_heads": 2},
    {"kind": "mlp"},
    *({"kind": "mamba", "d_state": 4, "direction": direction} for direction in DIRECTIONS),
    *({"kind": "mamba2", "d_state": 4, "headdim": 4, "direction": direction} for direction in DIRECTIONS),
    {"kind": "mamba2", "d_state": 4, "headdim": 4, "ngroups": 2, "expand": 1.0, "chunk_size": 5},
    *({"kind": "mamba3", "d_state": 8, "headdim": 5, "direction": direction} for direction in DIRECTIONS[:4]),
    {"kind": "mamba3", "d_state": 4, "headdim": 4, "ngroups": 2, "expand": 1.0, "rope_fraction": 1.0},
    {"kind": "mamba3", "d_state": 8, "headdim": 5, "output_norm": False, "out_gain": 0.1},
    *({"kind": "mlstm", "expand": 1.0, "direction": direction} for direction in DIRECTIONS[:3]),
    *({"kind": "rwkv7", "head_size": 7, "direction": direction} for direction in DIRECTIONS[:3]),
]


def gradients(model: TRM, dtype: torch.dtype) -> list[torch.Tensor]:
    """The loss of a first supervision step, then its gradient by every parameter of the network."""
    model = model.to(dtype).train()
    model.forward_dtype = dtype
    generator = torch.Generator().manual_seed(0)
    boards = torch.randint(1, 5, (2, 3, 16), generator=generator, dtype=torch.uint8)
    carry, output = model(model.initial_carry(3, "cpu"), *boards, model.draw_noise(3, generator))
    loss, _ = supervision_loss(output, carry, TrialConfig().loss)
    return [loss, *torch.autograd.grad(loss, [p for _, p in model.network_parameters()])]


@pytest.mark.parametrize("pos_encodings", ["rope", "learned"])
@pytest.mark.parametrize("mixer", MIXERS, ids=lambda m: "-".join(map(str, m.values())))
def test_a_step_has_the_gradients_of_the_plain_composition(mixer, pos_encodings):
    sizes = {"hidden_size": 16, "num_layers": 2, "h_cycles": 2, "l_cycles": 2, "puzzle_emb_len": 1}
    config = TrialConfig.model_validate(
        {
            "model": {**sizes, "pos_encodings": pos_encodings, "mixer": mixer},
            "data": {"task": "sudoku", "size": 4},
        }
    )
    fast = build_model(config, 0, "cpu")
    plain, unbound = copy.deepcopy(fast), copy.deepcopy(fast)
    compose_plainly(plain)
    compose_plainly(unbound, unbound_scan)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        expected = gradients(plain, dtype)
        for model in (fast, unbound):
            for one, other in zip(gradients(model, dtype), expected, strict=True):
                assert (one - other).norm() <= tolerance * other.norm() + 1e-12
