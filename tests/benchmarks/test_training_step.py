"""A mixer that the benchmark does not know is measured as far as it can be, and what is left out is said."""

from __future__ import annotations

import pytest

from benchmarks.training_step import RECIPE, config_of, configs_of, measure
from tests.trm import plain
from trm.mixers.mlp import MLP

TINY = ["data.size=4", "model.hidden_size=16", "train.batch_size=2", "model.h_cycles=1", "model.l_cycles=1"]


def measured(ways: list[str]) -> set[str]:
    found = measure({"mlp": config_of(RECIPE, "mlp", TINY)}, "cpu", 1, 1, ways)
    return set(found["mlp"]) - {"num_params"}


def test_a_mixer_without_a_plain_composition_is_measured_without_it(monkeypatch, capsys):
    assert measured(["fast", "plain"]) == {"fast", "plain"}
    monkeypatch.delitem(plain.MIXERS, MLP)
    assert measured(["fast", "plain"]) == {"fast"}
    assert "plain.py has no MLP" in capsys.readouterr().err


def test_a_mixer_that_does_not_fit_the_recipe_is_left_out(capsys):
    assert "mamba2" in configs_of(RECIPE, [])
    assert "mamba2" not in configs_of(RECIPE, ["model.hidden_size=24"])  # heads of 16
    assert "mamba2 is left out" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no mixer"):
        configs_of(RECIPE, ["model.hidden=24"])
