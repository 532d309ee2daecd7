"""The replay of single blocks compares every array, and fails on a wrong one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden_blocks import replay_mamba, replay_mamba2
from tests.replay import relative_error
from tests.trm import plain
from trm.grid import Layout
from trm.mixers.mamba2 import Mamba2Config

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "mamba1_block": replay_mamba,
    "mamba1_block_fast_decay": replay_mamba,
    "mamba2_block": replay_mamba2,
    "mamba2_block_groups": replay_mamba2,
}


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return json.loads((GOLDEN / f"{name}.json").read_text()), dict(archive)


@pytest.mark.parametrize("name", CASES)
def test_every_array_is_compared_and_equal(name):
    case, arrays = load(name)
    entries = CASES[name](case, arrays)
    given = {n for n in arrays if not n.startswith("param/")} - {"x", "dy"}
    assert {entry[0] for entry in entries} == given
    for array, computed, recorded, tolerance in entries:
        assert relative_error(computed, recorded) <= tolerance, array


@pytest.mark.parametrize("by_group", [True, False])
def test_the_norm_of_groups_is_known_from_the_recording(by_group):
    """Of the official block, by group, and of Mamba2Simple; here of the plain composition."""
    case, arrays = load("mamba2_block_groups")
    fields = {name: case[name] for name in ("d_state", "d_conv", "expand", "headdim", "ngroups")}
    config = Mamba2Config(direction="forward", norm_by_group=by_group, **fields)
    block = config.build(case["d_model"], Layout(case["length"]), 0, None)
    block.load_state_dict(
        {n.removeprefix("param/"): torch.from_numpy(a) for n, a in arrays.items() if n.startswith("param/")}
    )
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    y = plain.mamba2(block, x)
    (y * torch.from_numpy(arrays["dy"])).sum().backward()
    gradients = {f"grad/{name}": p.grad.numpy() for name, p in block.named_parameters()}
    made = arrays | {"y": y.detach().numpy(), "dx": x.grad.numpy(), **gradients}
    assert all(relative_error(*entry[1:3]) <= entry[3] for entry in replay_mamba2(case, made))
    assert (relative_error(made["y"], arrays["y"]) > 1e-2) == by_group


@pytest.mark.parametrize("name", CASES)
def test_a_weight_off_by_one_in_a_hundred_shows(name):
    case, arrays = load(name)
    arrays["param/A_log"] = arrays["param/A_log"] + 0.01
    errors = {
        n: relative_error(computed, recorded) / tol
        for n, computed, recorded, tol in CASES[name](case, arrays)
    }
    assert max(errors.values()) > 1
