"""Replay recordings of single Mamba and Mamba-2 blocks: y = block(x), and the gradients of sum(y * dy)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tests.replay import relative_error
from trm.grid import Layout
from trm.mixers import MixerConfig
from trm.mixers.mamba import MambaConfig
from trm.mixers.mamba2 import Mamba2Config

Entry = tuple[str, Any, Any, float]  # name, computed, recorded, tolerance (relative error in the 2-norm)


def replay_mamba(case: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Entry]:
    fields = {name: case[name] for name in ("d_state", "d_conv", "expand", "dt_rank")}
    return _replay(MambaConfig(direction="forward", **fields), case, arrays)


def replay_mamba2(case: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Entry]:
    """Of the official block, whose norm is by group, or of Mamba2Simple, whose norm is over all channels.

    No recording's json says which of the two it is: it is the one whose output is nearer to the recorded.
    """
    fields = {name: case[name] for name in ("d_state", "d_conv", "expand", "headdim", "ngroups")}
    configs = [Mamba2Config(direction="forward", norm_by_group=each, **fields) for each in (True, False)]
    replays = [_replay(config, case, arrays) for config in configs]
    return min(replays, key=lambda entries: relative_error(*entries[0][1:3]))


def _replay(config: MixerConfig, case: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Entry]:
    block = config.build(case["d_model"], Layout(case["length"]), scan_index=0, rope_theta=None)
    weights = {n.removeprefix("param/"): torch.tensor(a) for n, a in arrays.items() if n.startswith("param/")}
    block.load_state_dict(weights)
    x = torch.tensor(arrays["x"]).requires_grad_()
    y = block(x)
    (y * torch.tensor(arrays["dy"])).sum().backward()

    tolerance = case["tolerance"]
    gradients = [
        (f"grad/{name}", parameter.grad, arrays[f"grad/{name}"], tolerance["grad"])
        for name, parameter in block.named_parameters()
    ]
    return [("y", y, arrays["y"], tolerance["y"]), ("dx", x.grad, arrays["dx"], tolerance["dx"]), *gradients]
