"""Search spaces over the parts of hybrids: lists inside the config as factors, tuned values and params."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.observe.preview import warnings
from sweeps.plan.build import load_plan
from sweeps.plan.identity import differences
from sweeps.plan.model import Plan
from sweeps.space.dotted import get
from sweeps.space.errors import SpecError
from tests.conftest import ROOT
from tests.sweeps.spaces import write_space
from trm.settings.overrides import flatten

SPACES = ROOT / "search_spaces"
SUBLAYERS = {"kind": "sublayers", "mixers": [{"kind": "mamba2", "d_state": 32}, "attention"]}


def plan_of(folder: Path, **changes: Any) -> Plan:
    base = {"model": {"num_layers": 2, "mixer": SUBLAYERS}}
    trm = {"trainer": "trm.trainer:train", "objective": {"metric": "val/exact_accuracy", "mode": "max"}}
    return load_plan(write_space(folder, **{**trm, "base": base, **changes}))


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(SpecError) as error:
        plan_of(folder, **changes)
    return str(error.value)


def test_a_part_of_a_hybrid_is_a_factor_and_a_tuned_value(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        ablate={"model.mixer.mixers.0.d_state": [16, 64], "model.mixer.mixers.1.kind": ["attention", "mlp"]},
        tune={"model.mixer.mixers.0.expand": {"choice": [1.0, 2.0]}},
        search={"algorithm": "grid"},
    )
    assert [arm.name for arm in plan.arms] == [
        *("d_state=16+attention", "d_state=16+mlp", "d_state=64+attention", "d_state=64+mlp")
    ]
    for trial in plan.first_trials():
        first, second = trial.config["model"]["mixer"]["mixers"]
        assert first["d_state"] == int(trial.arm[8:10]) and second["kind"] == trial.arm.split("+")[1]
        assert first["expand"] == trial.values["model.mixer.mixers.0.expand"]
        assert get(trial.config, "model.mixer.mixers.0.expand") == first["expand"]


def test_params_of_a_hybrid_are_scalars_under_dotted_names(tmp_path: Path) -> None:
    (arm, *_) = plan_of(tmp_path, ablate={"optim.lr": [1e-4, 2e-4]}).arms
    params = flatten(arm.config, into_lists=True)
    assert params["model.mixer.kind"] == "sublayers"
    assert params["model.mixer.mixers.0.kind"] == "mamba2" and params["model.mixer.mixers.0.d_state"] == 32
    assert params["model.mixer.mixers.1.num_heads"] == 8
    assert params["optim.betas"] == [0.9, 0.95]
    assert not any(isinstance(value, dict) for value in params.values())
    assert flatten({"a": [], "b": [{"c": 1}, 2]}, into_lists=True) == {"a": [], "b": [{"c": 1}, 2]}
    with pytest.raises(KeyError):
        get(arm.config, "model.mixer.mixers.2.kind")


def test_a_shorter_list_is_another_sweep(tmp_path: Path) -> None:
    def planned(*mixers: str) -> Plan:
        shorter = {"model.mixer": {"kind": "sublayers", "mixers": [SUBLAYERS["mixers"][0], *mixers]}}
        other = {"model.mixer": {"kind": "mlp"}}
        return plan_of(tmp_path, ablate={"mixer": {"levels": {"one": shorter, "other": other}}})

    (line,) = differences(planned("attention").identity, planned().identity)
    assert line.startswith("arms.mixer=one: ")


def test_levels_that_are_whole_mixers_and_lists_of_values(tmp_path: Path) -> None:
    pattern = {"kind": "pattern", "mixers": ["mamba2", "attention"]}
    levels = {"one": {"model.mixer": pattern}, "other": {"model.mixer": {"kind": "mlp"}}}
    plan = plan_of(tmp_path, ablate={"mixer": {"levels": levels}})
    assert [arm.config["model"]["mixer"]["kind"] for arm in plan.arms] == ["pattern", "mlp"]
    orders = ["row", "column", ["row", "column"]]
    base = {"model": {"mixer": {"kind": "mamba2"}}}
    plan = plan_of(tmp_path, base=base, ablate={"model.mixer.order": orders})
    assert [arm.name for arm in plan.arms] == ["order=row", "order=column", "order=row-column"]


MAMBA2 = {"kind": "mamba2"}
IDLE = {
    "pattern": {"kind": "pattern", "mixers": ["mamba2", MAMBA2]},
    "sublayers": {"kind": "sublayers", "mixers": ["mamba2"]},
    "order": MAMBA2 | {"order": ["row", "row"]},
    "chunks": MAMBA2 | {"chunk_size": 16},
}


@pytest.mark.parametrize("name", IDLE)
def test_two_ways_to_say_the_same_are_no_comparison(tmp_path: Path, name: str) -> None:
    levels = {"plain": {"model.mixer": MAMBA2}, "same": {"model.mixer": IDLE[name]}}
    message = refused(tmp_path, ablate={"mixer": {"levels": levels}})
    assert "changes nothing between the arms mixer=plain and mixer=same" in message


@pytest.mark.parametrize(
    ("mixer", "words"),
    [
        ({"kind": "pattern", "mixers": ["mamba2", "atention"]}, ["mixers.1.kind", "did you mean attention?"]),
        ({"kind": "pattern", "mixers": ["mamba2", "mlp", "mlp"]}, ["mixers has 3 layers", "multiple of 3"]),
        ({"kind": "mamba", "direction": "quasiseparable"}, ["only mamba2 has", "set kind to mamba2"]),
        ({"kind": "mamba2", "order": ["row", "column", "box"]}, ["order has 3 entries", "the 10 heads"]),
        ({"kind": "mamba2", "order": "diagonal"}, ["model.mixer.order: must be 'row', 'column' or 'box'"]),
        ({"kind": "parallel", "mixers": ["mamba2"]}, ["model.mixer.mixers", "at least 2 items"]),
    ],
    ids=["unknown", "uneven", "quasiseparable mamba", "shares", "order", "parallel of one"],
)
def test_bad_mixers_are_refused_before_anything_starts(
    tmp_path: Path, mixer: dict[str, Any], words: list[str]
) -> None:
    levels = {"good": {"model.mixer": MAMBA2}, "bad": {"model.mixer": mixer}}
    message = refused(tmp_path, ablate={"mixer": {"levels": levels}})
    assert all(word in message for word in words), message


def test_a_path_into_a_list_that_is_not_there(tmp_path: Path) -> None:
    message = refused(tmp_path, ablate={"model.mixer.mixers.2.d_state": [16, 64]})
    assert "2 is not an index of a list of 2: give 0 to 1, or set the list itself" in message
    message = refused(tmp_path, ablate={"model.mixer.mixers.0.d_sate": [16, 64]})
    assert "did you mean model.mixer.mixers.0.d_state?" in message


@pytest.mark.parametrize(("name", "share"), [("d_state", 0.015), ("direction", 0.01), ("scan_order", 0.002)])
def test_the_arms_of_an_ssm_space_have_equal_parameters(name: str, share: float) -> None:
    plan = load_plan(SPACES / f"ssm_{name}.yaml")
    sizes = [arm.num_params or 0 for arm in plan.arms]
    assert max(sizes) / min(sizes) < 1 + share
    assert not any("changes parameters" in note for note in warnings(plan))
    kinds = [arm.config["model"]["mixer"]["kind"] for arm in plan.arms]
    assert set(kinds) == {"mamba", "mamba2"}


def test_the_hybrids_and_their_published_sizes() -> None:
    """arXiv 2602.12078: 6.86M for mamba2 x 2 + attention, 6.83M for attention."""
    arms = {str(arm.levels["mixer"]): arm for arm in load_plan(SPACES / "ssm_hybrids.yaml").arms}
    millions = {name: round((arm.num_params or 0) / 1e6, 2) for name, arm in arms.items()}
    assert millions["attention"] == 6.83 and millions["TR_mamba2attn"] == 6.86
    with_mlp = {"mlp", "mamba2_mlp_t", "mamba2-mlp"}
    assert all(abs(size / 6.83 - 1) < 0.015 for name, size in millions.items() if name not in with_mlp)
    published = arms["TR_mamba2attn"].config["model"]
    assert published["num_layers"] == 1 and published["hidden_size"] == 512
    scan, again, attention = published["mixer"]["mixers"]
    assert scan == again and attention["kind"] == "attention"
    wanted = {"d_state": 128, "headdim": 64, "expand": 2.0, "d_conv": 4, "ngroups": 1, "direction": "forward"}
    assert wanted.items() <= scan.items()
