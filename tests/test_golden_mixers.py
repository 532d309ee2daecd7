"""The replay of cores and blocks compares every array, and fails on a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.golden_mixers import REPLAYS
from tests.replay import relative_error, replay_case

GOLDEN = Path(__file__).parent / "golden"
CASES = [(kind, mixer) for kind, replays in REPLAYS.items() for mixer in replays]


def load(kind, mixer):
    stem = GOLDEN / f"{mixer}_{kind}"
    with np.load(stem.with_suffix(".npz")) as archive:
        return json.loads(stem.with_suffix(".json").read_text()), dict(archive)


@pytest.mark.parametrize(("kind", "mixer"), CASES)
def test_every_array_is_compared_and_equal(kind, mixer):
    case, arrays = load(kind, mixer)
    entries = REPLAYS[kind][mixer](case, arrays)
    given = {n for n in arrays if not n.startswith(("param/", "in/"))} - {"x", "dy"}
    assert {entry[0] for entry in entries} == given
    for name, computed, recorded, tolerance in entries:
        assert tolerance == case["tolerance"].get(name, tolerance)
        assert relative_error(computed, recorded) <= tolerance, name


@pytest.mark.parametrize(("kind", "mixer"), CASES)
def test_every_input_off_by_one_in_a_hundred_shows(kind, mixer):
    case, arrays = load(kind, mixer)
    for name in [n for n in arrays if n.startswith(("param/", "in/"))]:
        noise = np.random.default_rng(0).normal(size=arrays[name].shape).astype(np.float32)
        changed = arrays | {name: arrays[name] + 0.01 * noise}
        assert replay_case(case, changed, GOLDEN)[0] == "FAIL", name


def test_a_mixer_without_code_is_skipped():
    case, arrays = load("core", "mlstm")
    assert replay_case(case | {"mixer": "other"}, arrays, GOLDEN) == (
        "SKIP",
        "no code for a core of 'other' yet",
    )
