"""Replay recordings that name their `kind` and `mixer`: a `core`, one sequence operator, and a `block`, a
whole mixer.

A core is computed from `in/NAME`, a block from `x` and `param/NAME`; both are compared by output and by the
gradients of sum(y * dy). A tolerance is an array's own, where the json gives one, or its kind's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.golden_blocks import Entry
from trm.grid import Layout
from trm.mixers import MixerConfig
from trm.mixers.gated_deltanet import GatedDeltaNetConfig
from trm.mixers.kda import KDAConfig
from trm.mixers.kernels.delta import delta_rule

Arrays = Mapping[str, np.ndarray]
Case = dict[str, Any]
Replay = Callable[[Case, Arrays], list[Entry]]


def replay_core(core: Callable[[Case, dict[str, Tensor]], Tensor], case: Case, arrays: Arrays) -> list[Entry]:
    inputs = {name: torch.tensor(a).requires_grad_() for name, a in _under(arrays, "in/").items()}
    y = core(case, inputs)
    (y * torch.tensor(arrays["dy"])).sum().backward()
    gradients = {f"grad/{name}": (v.grad, arrays[f"grad/{name}"]) for name, v in inputs.items()}
    return _entries(case, {"y": (y, arrays["y"])} | gradients)


class Block(NamedTuple):
    config: Callable[[Case], MixerConfig]
    names: dict[str, str]  # of parameters, where the recording's differ from the module's


def replay_block(block: Block, case: Case, arrays: Arrays) -> list[Entry]:
    module = block.config(case).build(case["d_model"], Layout(case["length"]), scan_index=0, rope_theta=None)
    names = {name: block.names.get(name, name) for name in _under(arrays, "param/")}
    module.load_state_dict({own: torch.tensor(arrays[f"param/{name}"]) for name, own in names.items()})
    x = torch.tensor(arrays["x"]).requires_grad_()
    y = module(x)
    (y * torch.tensor(arrays["dy"])).sum().backward()
    found = {"y": (y, arrays["y"]), "dx": (x.grad, arrays["dx"])}
    for name, own in names.items():
        found[f"grad/{name}"] = (module.get_parameter(own).grad, arrays[f"grad/{name}"])
    return _entries(case, found)


def _delta_rule(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    q, k, v, g, beta = (inputs[name] for name in ("q", "k", "v", "g", "beta"))
    decays = g if g.ndim == k.ndim else g[..., None]  # for each key channel, or for each head
    return delta_rule(case["scale"] * q, k, v, decays, beta, chunk_size=64)


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


CORES = {"gated_deltanet": _delta_rule, "kda": _delta_rule}
BLOCKS = {"gated_deltanet": Block(_gated_deltanet_config, {}), "kda": Block(_kda_config, {})}
REPLAYS: dict[str, dict[str, Replay]] = {
    "core": {name: partial(replay_core, core) for name, core in CORES.items()},
    "block": {name: partial(replay_block, block) for name, block in BLOCKS.items()},
}
