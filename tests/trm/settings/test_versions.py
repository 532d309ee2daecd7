"""Keys that have another name now are read under their old one, wherever a config comes from."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trm.config import TrialConfig
from trm.settings.messages import explain
from trm.settings.overrides import override

MAMBA2 = {"kind": "mamba2"}


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        ({"kind": "mamba", "out_proj_gain": 0.7}, {"out_gain": 0.7}),
        ({"kind": "mamba2", "out_proj_gain": 0.3}, {"out_gain": 0.3}),
        ({"kind": "pattern", "mixers": [MAMBA2 | {"out_proj_gain": 0.5}, "attention"]}, {"out_gain": 0.5}),
    ],
)
def test_the_gain_of_an_older_version(mixer: dict[str, Any], expected: dict[str, Any]) -> None:
    config = TrialConfig.model_validate({"model": {"mixer": mixer}})
    recorded = config.model_dump(mode="json")["model"]["mixer"]
    found = recorded["mixers"][0] if "mixers" in recorded else recorded
    assert expected.items() <= found.items() and "out_proj_gain" not in found
    assert TrialConfig.model_validate(config) == config


def test_a_gain_of_one_is_recorded_only_where_the_first_version_recorded_it() -> None:
    for kind in ("attention", "mlp", "mamba", "mamba2"):
        config = TrialConfig.model_validate({"model": {"mixer": {"kind": kind}}})
        assert ("out_gain" in config.model_dump()["model"]["mixer"]) == (kind in ("mamba", "mamba2"))
        loud = TrialConfig.model_validate({"model": {"mixer": {"kind": kind, "out_gain": 2.0}}})
        assert loud.model_dump()["model"]["mixer"]["out_gain"] == 2.0
        assert loud.effective() != config.effective()


@pytest.mark.parametrize("before", ["out_proj_gain", "out_gain"])
@pytest.mark.parametrize("path", ["model.mixer.out_proj_gain", "model.mixer.out_gain"])
def test_an_override_under_either_name(before: str, path: str) -> None:
    tree = {"model": {"mixer": MAMBA2 | {before: 0.2}}}
    assert override(tree, [(path, 0.4)], TrialConfig) == {"model": {"mixer": MAMBA2 | {"out_gain": 0.4}}}
    inside = {"model.mixer": MAMBA2 | {before: 0.5}}
    assert override({}, inside.items(), TrialConfig) == {"model": {"mixer": MAMBA2 | {"out_gain": 0.5}}}


def test_both_names_at_once_are_refused() -> None:
    mixer = MAMBA2 | {"out_proj_gain": 0.2, "out_gain": 0.3}
    with pytest.raises(ValidationError) as refused:
        TrialConfig.model_validate({"model": {"mixer": mixer}})
    message = explain(refused.value, TrialConfig, "x")
    assert message == (
        "x: model.mixer.out_proj_gain: unknown key (given 0.2): did you mean model.mixer.out_gain?"
    )
