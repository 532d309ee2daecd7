"""Mamba-2 alone: long sequences go in chunks; its gated norm is by group, as in the official block."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from tests.trm.mixers.conformance import HIDDEN, LAYOUT, SIZES, build, check_chunks, states
from trm.config import TrialConfig
from trm.mixers.kernels import ssd
from trm.mixers.mamba2 import Mamba2Config
from trm.mixers.ssm import Direction


@pytest.mark.parametrize("direction", get_args(Direction))
def test_long_sequences_go_in_chunks(direction, monkeypatch):
    fields = {"direction": direction, "order": ("row", "column"), "expand": 1.5}
    check_chunks(Mamba2Config(**fields, **SIZES["mamba2"]), ssd, monkeypatch)


@pytest.mark.parametrize("direction", ["alternating", "bidirectional_own", "quasiseparable"])
@pytest.mark.parametrize("order", ["row", ("row", "column")])
@pytest.mark.parametrize(("by_group", "sizes"), [(True, [12, 12]), (False, [24])])
def test_the_gated_norm_scales_each_group_of_channels_by_itself(direction, order, by_group, sizes):
    """group_size = d_ssm // ngroups in mamba_ssm's Mamba2; Mamba2Simple norms all channels together."""
    fields = {"direction": direction, "order": order, "ngroups": 2, "expand": 1.5, "norm_by_group": by_group}
    module = build(Mamba2Config(**fields, **SIZES["mamba2"]))
    inside, outside = [], []
    module.norm.register_forward_hook(lambda _module, args, _y: inside.append(args))
    module.out_proj.register_forward_pre_hook(lambda _module, args: outside.append(args[0]))
    module(states(2, LAYOUT.seq_len, HIDDEN))
    [(y, z)], [normed] = inside, outside
    parts = (y * F.silu(z)).split(sizes, dim=-1)
    expected = [part / (part.square().mean(-1, keepdim=True) + 1e-5).sqrt() for part in parts]
    torch.testing.assert_close(normed, torch.cat(expected, -1))


def recorded(**fields) -> dict[str, object]:
    content = TrialConfig.model_validate({"model": {"mixer": {"kind": "mamba2", **fields}}})
    return content.model_dump(mode="json")["model"]["mixer"]


def test_the_norm_is_told_where_it_has_an_effect():
    assert "norm_by_group" not in recorded() and recorded(ngroups=2)["norm_by_group"] is True
    assert recorded(norm_by_group=False)["norm_by_group"] is False  # for another ngroups that is set later
    alone = [Mamba2Config(norm_by_group=each).effective_at(0, 512, LAYOUT) for each in (True, False)]
    assert alone[0] == alone[1] and "norm" not in str(alone)


@pytest.mark.parametrize("inside", [False, True])
def test_a_config_of_the_first_version_has_the_first_norm(inside):
    for fields, expected in (({"ngroups": 2}, False), ({"ngroups": 1}, True)):
        mixer = recorded(**fields)
        mixer.pop("norm_by_group", None)
        content = {"model": {"mixer": {"kind": "pattern", "mixers": [mixer]} if inside else mixer}}
        for mixers, by_group in (
            (TrialConfig.recorded(content).model.mixer, expected),
            (TrialConfig.model_validate(content).model.mixer, True),  # in a search space
        ):
            assert (mixers.mixers[0] if inside else mixers).norm_by_group is by_group
    new = {"model": {"mixer": recorded(ngroups=2)}}
    assert TrialConfig.recorded(new).model.mixer.norm_by_group is True
