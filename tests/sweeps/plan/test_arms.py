"""Arms: which levels are combined, what a combination sets, and what it is called."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sweeps.plan.build import build_plan
from sweeps.plan.model import Arm
from sweeps.space.errors import SpecError
from sweeps.space.load import Sources
from sweeps.space.schema import SweepSpec
from tests.sweeps.spaces import TOY

HERE = Sources(Path("toy.yaml"), Path.cwd(), Path.cwd(), ())


def arms(ablate: dict[str, Any], **changes: Any) -> tuple[Arm, ...]:
    return build_plan(SweepSpec.model_validate({**TOY, "ablate": ablate, **changes}), HERE).arms


def names(ablate: dict[str, Any], **changes: Any) -> list[str]:
    return [arm.name for arm in arms(ablate, **changes)]


KINDS = st.lists(st.sampled_from("abcd"), min_size=2, unique=True)
BONUSES = st.lists(st.integers(0, 9), min_size=2, max_size=3, unique=True)
LABELS = st.lists(st.text(max_size=150), min_size=1, max_size=4, unique=True)


@settings(deadline=None)
@given(KINDS, BONUSES, BONUSES)
def test_full_crosses_all_levels_with_the_first_of_each_as_baseline(
    kinds: list[str], bonuses: list[int], rates: list[int]
) -> None:
    found = arms({"model.kind": kinds, "model.bonus": bonuses, "lr": rates})
    assert len({arm.name for arm in found}) == len(found) == math.prod(map(len, (kinds, bonuses, rates)))
    assert found[0].levels == {"model.kind": kinds[0], "model.bonus": bonuses[0], "lr": rates[0]}
    for arm in found:
        assert arm.config["model"] == {"kind": arm.levels["model.kind"], "bonus": arm.levels["model.bonus"]}
        assert arm.config["lr"] == arm.levels["lr"]


@settings(deadline=None)
@given(KINDS, BONUSES)
def test_one_at_a_time_changes_one_factor_from_the_base(kinds: list[str], bonuses: list[int]) -> None:
    assume(set(kinds) != {"a"} and set(bonuses) != {0})  # what is only the base compares nothing
    found = arms({"model.kind": kinds, "model.bonus": bonuses}, design="one_at_a_time")
    assert found[0].name == "base" and found[0].config["model"] == {"kind": "a", "bonus": 0.0}
    changed = [
        {k for k, v in {"kind": "a", "bonus": 0}.items() if arm.config["model"][k] != v} for arm in found
    ]
    assert changed[0] == set() and all(len(keys) == 1 for keys in changed[1:])
    assert len(found) == 1 + len(set(kinds) - {"a"}) + len(set(bonuses) - {0})


def test_one_at_a_time_has_the_bases_levels_in_its_table() -> None:
    found = arms(
        {"model.kind": ["a", "b"], "w": {"levels": {"low": {"lr": 0.1}, "high": {"lr": 0.5}}}},
        design="one_at_a_time",
    )
    assert [(arm.name, arm.levels) for arm in found] == [
        ("base", {"model.kind": "a", "w": "low"}),
        ("b", {"model.kind": "b", "w": "low"}),
        ("w=high", {"model.kind": "a", "w": "high"}),
    ]


@pytest.mark.parametrize("first", ["lr", "model.kind"])
def test_a_factor_is_absent_where_its_when_is_not_met(first: str) -> None:
    factors = {"lr": {"values": [0.1, 0.2], "when": {"model.kind": ["b", "c"]}}, "model.kind": ["a", "b"]}
    found = arms(dict(sorted(factors.items(), key=lambda item: item[0] != first)))
    assert {tuple(sorted(arm.levels.items())) for arm in found} == {
        (("model.kind", "a"),),
        (("lr", 0.1), ("model.kind", "b")),
        (("lr", 0.2), ("model.kind", "b")),
    }


def test_when_may_name_a_factor_or_a_key_that_a_level_or_the_base_sets() -> None:
    width = {"levels": {"narrow": {"model.kind": "a"}, "wide": {"model.kind": "b"}}}
    for when in ({"width": "wide"}, {"model.kind": "b"}, {"width": "wide", "max_samples": 100}):
        found = names({"width": width, "lr": {"values": [0.1, 0.2], "when": when}})
        assert found == ["width=narrow", "width=wide+lr=0.1", "width=wide+lr=0.2"]


@pytest.mark.parametrize("order", [1, -1])
def test_setting_a_tag_drops_only_what_other_kinds_have(order: int) -> None:
    mixer = {"kind": "mamba", "d_state": 32, "expand": 1.0}
    base = {"model": {"hidden_size": 128, "mixer": mixer}, "optim": {"lr_warmup_steps": 5}}
    found = arms(
        {"model.mixer.kind": ["mamba", "mamba2", "mlp"][::order]},
        trainer="trm.trainer:train",
        base=base,
        objective={"metric": "val/exact_accuracy", "mode": "max"},
    )
    mixers = {arm.name: arm.config["model"]["mixer"] for arm in found}
    assert mixers["mamba"]["d_state"] == mixers["mamba2"]["d_state"] == 32
    assert mixers["mamba2"]["expand"] == 1.0
    assert "d_state" not in mixers["mlp"] and mixers["mlp"]["kind"] == "mlp"


def test_a_factor_may_set_a_whole_section() -> None:
    found = arms({"model": [{"kind": "b"}, {"kind": "c", "bonus": 1}]})
    assert [arm.config["model"]["kind"] for arm in found] == ["b", "c"]


@settings(deadline=None)
@given(LABELS, st.sampled_from(["any/thing", "its.kind"]))
def test_names_are_unique_and_safe_as_file_names(labels: list[str], factor: str) -> None:
    levels = {label: {"model.bonus": index + 1} for index, label in enumerate(labels)}
    try:
        found = names({factor: {"levels": levels}})
    except SpecError as error:
        assert "give their levels names" in str(error)
        return
    assert len(set(found)) == len(labels)
    for name in found:
        assert re.fullmatch(r"[A-Za-z0-9_=+-][A-Za-z0-9_.=+-]*", name) and len(name) < 120


@settings(deadline=None)
@given(st.permutations("abcd"), st.permutations([0.1, 0.2, 1e-4]))
def test_an_arm_keeps_its_name_whatever_stands_beside_it(kinds: list[str], rates: list[float]) -> None:
    by_levels = {
        (arm.levels["model.kind"], arm.levels["lr"]): arm.name
        for arm in arms({"model.kind": kinds, "lr": rates})
    }
    assert by_levels["a", 0.1] == "a+lr=0.1" and by_levels["b", 1e-4] == "b+lr=0.0001"
    assert names({"model.kind": ["b"], "lr": [0.2]}) == ["b+lr=0.2"]


def test_names_use_as_much_of_a_key_as_tells_it_from_the_others() -> None:
    widths = {
        "inner.width": {"levels": {"x": {"lr": 1}}},
        "outer.width": {"levels": {"y": {"max_samples": 9}}},
    }
    assert names(widths) == ["inner.width=x+outer.width=y"]
    assert names({"fail_once": ["/data/a.txt", None]}) == ["fail_once=a.txt", "fail_once=None"]
