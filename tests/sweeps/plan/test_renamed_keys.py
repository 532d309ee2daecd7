"""A search space of a version before a key had its new name, and the sweep that was recorded of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeps.plan.build import load_plan
from sweeps.plan.model import Plan
from sweeps.record.folder import as_recorded, inspect_folder, write_space
from sweeps.space.encoding import digest
from sweeps.space.errors import SpecError
from tests.sweeps.spaces import write_space as write_yaml
from trm.settings.yaml import dump_yaml, load_yaml

OLD, NEW = "out_proj_gain", "out_gain"
HYBRID = {"kind": "pattern", "mixers": [{"kind": "mamba", "d_state": 8, OLD: 0.5}, "attention"]}
FACTORS: dict[str, Any] = {
    f"model.mixer.{OLD}": [0.2, 0.5],
    "model.mixer.d_conv": {"values": [2, 4], "when": {f"model.mixer.{OLD}": [0.5]}},
}
LEVELS = {"level": {"levels": {"mamba2": {"model.mixer.kind": "mamba2"}, "hybrid": {"model.mixer": HYBRID}}}}
WHOLE = {"model.mixer": [{"kind": "mamba2", OLD: 0.2}, HYBRID]}
TUNE = {f"model.mixer.{OLD}": {"loguniform": [0.1, 1.0]}}


def plan_of(folder: Path, ablate: dict[str, Any], **changes: Any) -> Plan:
    space = {
        "trainer": "trm.trainer:train",
        "objective": {"metric": "val/exact_accuracy", "mode": "max"},
        "base": {"model": {"mixer": {"kind": "mamba2", OLD: 0.2}}},
        "ablate": ablate,
    }
    return load_plan(write_yaml(folder, **{**space, **changes}))


def test_factors_and_conditions_may_have_the_old_name(tmp_path: Path) -> None:
    found = {}
    for arm in plan_of(tmp_path, FACTORS).arms:
        mixer = arm.config["model"]["mixer"]
        assert OLD not in mixer
        found[arm.name] = (mixer[NEW], mixer["d_conv"])
    assert found == {
        f"{OLD}=0.2": (0.2, 4),
        f"{OLD}=0.5+d_conv=2": (0.5, 2),
        f"{OLD}=0.5+d_conv=4": (0.5, 4),
    }


def test_tuned_values_may_have_the_old_name(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"model.mixer.d_conv": [2, 4]}, tune=TUNE, search={"draws_per_arm": 2})
    for trial in plan.first_trials():
        assert trial.config["model"]["mixer"][NEW] == trial.values[f"model.mixer.{OLD}"]


def record(plan: Plan, folder: Path) -> str:
    """The plan's sweep as the older version recorded it; its hash."""
    folder.mkdir()
    write_space(plan, folder, "data", extended=False)
    path = folder / "sweep.yaml"
    space = load_yaml(path)
    as_it_was = json.loads(json.dumps(space["resolved"]["identity"]).replace(f'{NEW}"', f'{OLD}"'))
    space["resolved"] |= {"identity": as_it_was, "hash": digest(as_it_was)}
    path.write_text(dump_yaml(space))
    return digest(as_it_was)


@pytest.mark.parametrize("ablate", [FACTORS, LEVELS, WHOLE], ids=["factors", "levels", "sections"])
def test_a_recorded_sweep_is_the_same_sweep(tmp_path: Path, ablate: dict[str, Any]) -> None:
    plan, folder = plan_of(tmp_path, ablate), tmp_path / "sweep"
    assert all(OLD in arm.name for arm in plan.arms) == (ablate is not LEVELS)  # names stay as they were
    recorded = record(plan, folder)
    assert plan.hash != recorded and as_recorded(plan, folder).hash == recorded
    other = plan_of(tmp_path, ablate, base={"model": {"mixer": {"kind": "mamba2", OLD: 0.3}}})
    with pytest.raises(SpecError, match=rf"{OLD}: 0.2 before, 0.3 now"):
        inspect_folder(as_recorded(other, folder), folder, resume=True, extend=False)


def test_a_recorded_sweep_can_be_extended(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    record(plan_of(tmp_path, LEVELS), folder)
    levels = LEVELS["level"]["levels"] | {"mlp": {"model.mixer.kind": "mlp"}}
    plan = as_recorded(plan_of(tmp_path, {"level": {"levels": levels}}), folder)
    assert inspect_folder(plan, folder, resume=False, extend=True).extended
    write_space(plan, folder, "data", extended=True)
    assert as_recorded(plan_of(tmp_path, {"level": {"levels": levels}}), folder).hash == plan.hash
