"""Replay recordings that name their `kind` and `mixer`: `core`, a sequence operator, and `block`, a mixer.

A core is computed from `in/NAME`, a block from `x` and `param/NAME`; both are compared by output and by the
gradients of sum(y * dy). A tolerance is an array's own, where the json gives one, or its kind's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.golden_blocks import Entry
from trm.grid import Layout
from trm.mixers import MixerConfig
from trm.mixers.gated_deltanet import GatedDeltaNetConfig
from trm.mixers.kda import KDAConfig
from trm.mixers.kernels import mamba3, mlstm, rwkv7
from trm.mixers.kernels.delta import delta_rule
from trm.mixers.mamba3 import Mamba3Config
from trm.mixers.mlstm import MLSTMConfig
from trm.mixers.rwkv7 import RWKV7Config

Arrays = Mapping[str, np.ndarray]
Case = dict[str, Any]
Replay = Callable[[Case, Arrays], list[Entry]]


Core = Callable[[Case, dict[str, Tensor]], Tensor]


def replay_core(core: Core, case: Case, arrays: Arrays) -> list[Entry]:
    inputs = {name: torch.tensor(a).requires_grad_() for name, a in _under(arrays, "in/").items()}
    y = core(case, inputs)
    (y * torch.tensor(arrays["dy"])).sum().backward()
    grads = {f"grad/{name}": (v.grad, arrays[f"grad/{name}"]) for name, v in inputs.items()}
    return _entries(case, {"y": (y, arrays["y"])} | grads)


def _rwkv7(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    return rwkv7.rwkv7(**inputs)


def _mlstm(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    return mlstm.mlstm(*(inputs[name] for name in ("q", "k", "v", "igate", "fgate")))


def _mamba3(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    given = dict(inputs)
    z = given.pop("z", None)
    y = mamba3.mamba3(**given)
    return y if z is None else y * F.silu(z)


def _delta_rule(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    q, k, v, g, beta = (inputs[name] for name in ("q", "k", "v", "g", "beta"))
    decays = g if g.ndim == k.ndim else g[..., None]  # for each key channel, or for each head
    return delta_rule(case["scale"] * q, k, v, decays, beta, chunk_size=64)


class Block(NamedTuple):
    config: Callable[[Case], MixerConfig]
    names: dict[str, str]  # of parameters, where the recording's differ from the module's


def replay_block(block: Block, case: Case, arrays: Arrays) -> list[Entry]:
    module = block.config(case).build(case["d_model"], Layout(case["length"]), 0, None)
    parameters = dict(module.named_parameters())
    recorded = _under(arrays, "param/")
    for unused in case.get("unused_parameters", ()):
        recorded.pop(unused, None)
    names = {name: block.names.get(name, name) for name in recorded}
    weights = {names[n]: torch.tensor(a).view(parameters[names[n]].shape) for n, a in recorded.items()}
    module.load_state_dict(weights)
    x = torch.tensor(arrays["x"]).requires_grad_()
    y = module(x)
    (y * torch.tensor(arrays["dy"])).sum().backward()
    found = {"y": (y, arrays["y"]), "dx": (x.grad, arrays["dx"])}
    for name in recorded:
        expected = arrays[f"grad/{name}"]
        found[f"grad/{name}"] = (parameters[names[name]].grad.view(expected.shape), expected)
    return _entries(case, found)


def _rwkv7_config(case: Case) -> MixerConfig:
    ranks = {name: case[name] for name in ("rank_w", "rank_a", "rank_g")}
    expand = case["num_heads"] * case["head_size"] / case["d_model"]
    return RWKV7Config(direction="forward", expand=expand, head_size=case["head_size"], **ranks)


def _mlstm_config(case: Case) -> MixerConfig:
    fields = {name: case[name] for name in ("num_heads", "d_conv", "qkv_block_size")}
    return MLSTMConfig(direction="forward", expand=case["d_inner"] / case["d_model"], **fields)


def _mamba3_config(case: Case) -> MixerConfig:
    return Mamba3Config(
        direction="forward",
        expand=case["expand"],
        headdim=case["head_dim"],
        d_state=case["d_state"],
        ngroups=case["num_groups"],
        rope_fraction=case["rope_fraction"],
        output_norm=case["outproj_norm"],
    )


def _delta_rule_fields(case: Case) -> dict[str, Any]:
    keys = case["head_dim_k"]
    fixed = {"norm_eps": 1e-5, "l2norm_eps": 1e-6, "scale": keys**-0.5}
    for name, value in fixed.items():
        if abs(case.get(name, value) / value - 1) > 1e-6:
            raise ValueError(f"its {name} is {case[name]}, which this project computes with {value:g} alone")
    names = ("num_heads", "d_conv", "allow_neg_eigval")
    sizes = {"d_state": keys, "head_dim": round(keys * case["expand_v"])}
    return {"direction": "forward", **{name: case[name] for name in names}, **sizes}


def _gated_deltanet_config(case: Case) -> MixerConfig:
    return GatedDeltaNetConfig(num_v_heads=case.get("num_v_heads"), **_delta_rule_fields(case))


def _kda_config(case: Case) -> MixerConfig:
    return KDAConfig(**_delta_rule_fields(case))


def _under(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _entries(case: Case, found: dict[str, tuple[Any, Any]]) -> list[Entry]:
    tolerance = case["tolerance"]
    return [
        (name, *pair, tolerance.get(name, tolerance[name.partition("/")[0]])) for name, pair in found.items()
    ]


CORES: dict[str, Core] = {
    "gated_deltanet": _delta_rule,
    "kda": _delta_rule,
    "rwkv7": _rwkv7,
    "mlstm": _mlstm,
    "mamba3": _mamba3,
}
BLOCKS = {
    "gated_deltanet": Block(_gated_deltanet_config, {}),
    "kda": Block(_kda_config, {}),
    "rwkv7": Block(_rwkv7_config, {"ln_x.weight": "ln_weight", "ln_x.bias": "ln_bias"}),
    "mlstm": Block(
        _mlstm_config,
        {
            "proj_up.weight": "in_proj.weight",
            "q_proj.weight": "q",
            "k_proj.weight": "k",
            "v_proj.weight": "v",
            "conv1d.conv.weight": "conv1d.weight",
            "conv1d.conv.bias": "conv1d.bias",
            "mlstm_cell.igate.weight": "igate.weight",
            "mlstm_cell.igate.bias": "igate_bias",
            "mlstm_cell.fgate.weight": "fgate.weight",
            "mlstm_cell.fgate.bias": "fgate_bias",
            "mlstm_cell.outnorm.weight": "norm_weight",
            "learnable_skip": "skip",
            "proj_down.weight": "out_proj.weight",
        },
    ),
    "mamba3": Block(
        _mamba3_config, {"B_norm.weight": "B_norm", "C_norm.weight": "C_norm", "norm.weight": "norm_weight"}
    ),
}
REPLAYS: dict[str, dict[str, Replay]] = {
    "core": {name: partial(replay_core, core) for name, core in CORES.items()},
    "block": {name: partial(replay_block, block) for name, block in BLOCKS.items()},
}
