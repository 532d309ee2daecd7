"""The replay of single blocks compares every array, and fails on a wrong one."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden_blocks import replay_mamba, replay_mamba2
from tests.replay import relative_error

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


@pytest.mark.parametrize("name", CASES)
def test_a_weight_off_by_one_in_a_hundred_shows(name):
    case, arrays = load(name)
    arrays["param/A_log"] = arrays["param/A_log"] + 0.01
    errors = {
        n: relative_error(computed, recorded) / tol
        for n, computed, recorded, tol in CASES[name](case, arrays)
    }
    assert max(errors.values()) > 1
