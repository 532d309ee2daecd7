"""`match`: every arm at one size, by the nearest value that its config accepts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from sweeps.observe.preview import preview
from sweeps.plan.build import load_plan
from sweeps.plan.identity import differences, resolved
from sweeps.plan.match import Matched
from sweeps.plan.model import Plan
from sweeps.plan.size_search import SizeSearch
from sweeps.plan.trainer import Trainer, import_trainer
from sweeps.record.state import SweepState
from sweeps.record.tables import trials_frame
from sweeps.space.errors import SpecError
from tests.conftest import ROOT
from tests.sweeps.spaces import check_refused, write_space
from trm.trainer import describe

BASE = ROOT / "search_spaces" / "base" / "trm_sudoku.yaml"
KINDS = ["attention", "mlp", "mamba", "mamba2"]


def trm_space(folder: Path, match: dict[str, Any], **changes: Any) -> Path:
    space = {"base": str(BASE), "ablate": {"model.mixer.kind": KINDS}, "match": match or None, **changes}
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    return path


def trm_plan(folder: Path, match: dict[str, Any], **changes: Any) -> Plan:
    return load_plan(trm_space(folder, match, **changes))


def came_to(plan: Plan) -> dict[str, Any]:
    return {arm.name: arm.match and arm.match.value for arm in plan.arms}


def nearby_sizes(config: dict[str, Any], key: str, values: Iterator[Any]) -> list[dict[str, Any]]:
    """What the trainer says at every value that the config accepts."""
    trainer, found = import_trainer("trm.trainer:train"), []
    for value in values:
        try:
            found.append(describe(trainer.configure(config, [(key, value)], "")))  # type: ignore[arg-type]
        except SpecError:
            continue
    return found


@pytest.fixture(scope="module")
def all_widths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Of each kind of mixer, what the trainer says at every width up to 1100."""
    plan = load_plan(trm_space(tmp_path_factory.mktemp("widths"), {}))
    return {
        arm.name: nearby_sizes(arm.config, "model.hidden_size", iter(range(1, 1100))) for arm in plan.arms
    }


def test_each_arm_gets_the_nearest_expand_that_its_config_accepts(tmp_path: Path) -> None:
    plan = trm_plan(tmp_path, {"params": 6.0e6, "by": "model.mixer.expand", "on_unmatched": "mark"})
    assert came_to(plan) == {"attention": None, "mlp": None, "mamba": 383 / 512, "mamba2": 0.75}
    for arm in plan.arms[2:]:
        assert arm.match is not None and arm.match.matched
        assert arm.config["model"]["mixer"]["expand"] == arm.match.value
        tried = nearby_sizes(arm.config, "model.mixer.expand", (n / 512 for n in range(1, 1025)))
        everything = [known["num_params"] for known in tried]
        assert arm.num_params == min(everything, key=lambda size: abs(size - 6.0e6))
        assert arm.match.off == pytest.approx((arm.num_params or 0) / 6.0e6 - 1)
    assert [arm.match and arm.match.matched for arm in plan.arms[:2]] == [False, False]


@pytest.mark.parametrize(("width", "expand"), [(32, 1.25), (48, 1.25), (96, 1.25), (100, 2.0), (102, 2.0)])
def test_a_real_value_need_not_be_a_round_one(tmp_path: Path, width: int, expand: float) -> None:
    """Channels are whole but for a hundredth: at width 32 1.281 is accepted, and leads nowhere."""
    base = yaml.safe_load(BASE.read_text())
    base["model"] |= {"hidden_size": width, "mixer": {"kind": "mamba", "expand": expand}}
    mamba2 = {"model.mixer.kind": "mamba2", "model.mixer.headdim": 4, "model.mixer.d_state": 256}
    levels = {"mamba": {"model.mixer.d_state": 16}, "mamba2": mamba2}
    match = {"params": "baseline", "by": "model.mixer.expand", "on_unmatched": "mark"}
    small = trm_plan(tmp_path, match, base=base, ablate={"m": {"levels": levels}})
    target = 1.9 * (small.arms[0].num_params or 0)
    plan = trm_plan(tmp_path, match | {"params": target}, base=base, ablate={"m": {"levels": levels}})
    for arm in plan.arms:
        tried = nearby_sizes(arm.config, "model.mixer.expand", (n / width for n in range(1, 12 * width)))
        everything = [known["num_params"] for known in tried]
        assert arm.num_params == min(everything, key=lambda size: abs(size - target)), arm.name
        assert arm.match is not None and arm.match.value is not None and arm.match.value > 2


@pytest.mark.parametrize(("what", "target"), [("params", 6.83e6), ("flops", 3.0e10), ("params", 3.0e6)])
def test_a_width_is_a_whole_number_that_heads_divide(
    tmp_path: Path, all_widths: dict[str, list[dict[str, Any]]], what: str, target: float
) -> None:
    plan = trm_plan(tmp_path, {what: target, "by": "model.hidden_size", "on_unmatched": "mark"})
    name = {"params": "num_params", "flops": "flops_per_sample"}[what]
    for arm in plan.arms:
        everything = [known[name] for known in all_widths[arm.name]]
        assert getattr(arm, name) == min(everything, key=lambda size: abs(size - target)), arm.name


def test_layers_are_counted(tmp_path: Path) -> None:
    plan = trm_plan(tmp_path, {"params": 20e6, "by": "model.num_layers", "tolerance": 0.03})
    assert came_to(plan) == {"attention": 6, "mlp": 8, "mamba": 6, "mamba2": 6}


def test_layers_of_one_of_two_networks_are_counted(tmp_path: Path) -> None:
    match = {"params": 20e6, "by": "model.h_layers", "tolerance": 0.06}
    model = {"networks": "separate", "num_layers": 2, "h_layers": 2}
    plan = trm_plan(tmp_path, match, base={"model": model})
    assert came_to(plan) == {"attention": 4, "mlp": 6, "mamba": 4, "mamba2": 4}
    for arm in plan.arms:
        assert arm.config["model"]["num_layers"] == 2


def test_of_values_of_one_size_the_arms_own_stays(tmp_path: Path) -> None:
    """SwiGLU's width is a multiple of 256: many an expansion comes to the same network."""
    plan = trm_plan(tmp_path, {"params": 6.9e6, "by": "model.expansion", "on_unmatched": "mark"})
    assert came_to(plan)["attention"] == 4.0


def test_the_baseline_can_be_the_size(tmp_path: Path) -> None:
    plan = trm_plan(tmp_path, {"params": "baseline", "by": "model.hidden_size"})
    assert plan.arms[0].match == Matched("model.hidden_size", 512, 6_828_034, 0.0, True)
    assert all(arm.match is not None and arm.match.matched for arm in plan.arms)


def test_what_was_chosen_is_told_everywhere(tmp_path: Path) -> None:
    match = {"params": "baseline", "by": "model.mixer.expand", "on_unmatched": "mark"}
    plan = trm_plan(tmp_path, match)
    text = preview(plan, dict.fromkeys([arm.name for arm in plan.arms], 1), "here")
    assert "Matched by model.mixer.expand: the baseline's parameters, within 2.00%" in text
    assert "not within match.tolerance, marked in the report: mlp" in text
    rows = {row.split()[0]: row for row in text.splitlines() if row.strip()}
    assert "1.23828" in rows["mamba"] and "+0.02%" in rows["mamba"] and "-26.35% !" in rows["mlp"]

    space = resolved(plan)
    assert space["match"] == match | {"tolerance": 0.02}
    arms = space["resolved"]["arms"]
    assert arms["mamba"]["match"]["value"] == 1.23828125 and arms["mlp"]["match"]["matched"] is False
    assert list(arms["mlp"]["match"]) == ["key", "value", "size", "off", "matched"]

    state = SweepState()
    for arm in plan.arms:
        trial = plan.trial(arm, plan.draws(arm)[0], 1, "evidence")
        assert trial.config["model"] == arm.config["model"]
        state.apply(
            {"event": "trial", "trial_id": trial.trial_id, "arm": arm.name, "draw": 0, "values": {},
             "seed": 1, "phase": "evidence"}
        )  # fmt: skip
    frame = trials_frame(state, space).set_index("arm")
    assert frame.loc["mamba2", "model.mixer.expand"] == 1.25
    assert pd.isna(frame.loc["attention", "model.mixer.expand"])


def test_a_space_that_was_resolved_resolves_to_the_same_again(tmp_path: Path) -> None:
    plan = trm_plan(tmp_path, {"params": 6e6, "by": "model.mixer.expand", "on_unmatched": "mark"})
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(resolved(plan)))
    again = load_plan(tmp_path / "again.yaml")
    assert again.hash == plan.hash and came_to(again) == came_to(plan)


def test_another_size_is_another_sweep_and_a_looser_tolerance_is_not(tmp_path: Path) -> None:
    one = trm_plan(tmp_path, {"params": 6.83e6, "by": "model.hidden_size"})
    loose = trm_plan(tmp_path, {"params": 6.83e6, "by": "model.hidden_size", "tolerance": 0.1})
    small = trm_plan(tmp_path, {"params": 5e6, "by": "model.hidden_size", "tolerance": 0.4})
    assert one.hash == loose.hash != small.hash
    assert any("model.hidden_size" in line for line in differences(one.identity, small.identity))


REFUSED = {
    "unmatched": (
        {"params": 6.83e6, "by": "model.mixer.expand"},
        {},
        ["mlp: 5,028,866 parameters, -26.37%, and it has no model.mixer.expand", "on_unmatched: mark"],
    ),
    "too-far": (
        {"params": 6e6, "by": "model.num_layers"},
        {},
        ["not within 2.00% of 6,000,000 parameters", "mamba: 6,849,282 parameters, +14.15%, at"],
    ),
    "key-that-no-arm-has": (
        {"params": 6e6, "by": "model.mixer.expand"},
        {"ablate": {"model.mixer.kind": ["attention", "mlp"]}},
        ["match.by: model.mixer.expand: no arm has this key: name a number", "has: model.hidden_size, "],
    ),
    "key-that-changes-no-size": (
        {"params": 6e6, "by": "model.rope_theta"},
        {},
        ["match.by: model.rope_theta: parameters are the same for every value"],
    ),
    "key-that-is-none": ({"params": 6e6, "by": "model.hidden"}, {}, ["did you mean model.hidden_size?"]),
    "key-that-is-no-number": ({"params": 6e6, "by": "model.networks"}, {}, ["'shared'", "only a number"]),
    "key-of-a-factor": (
        {"params": 6e6, "by": "model.mixer.kind"},
        {},
        ["is set by the factor model.mixer.kind too"],
    ),
    "key-inside-a-level": (
        {"params": 6e6, "by": "model.mixer.expand"},
        {"ablate": {"m": {"levels": {"a": {"model.mixer": {"kind": "mamba", "expand": 1.0}}}}}},
        ["is set by the factor m too"],
    ),
    "key-that-a-when-looks-at": (
        {"params": 6e6, "by": "model.num_layers"},
        {"ablate": {"optim.lr": {"values": [1e-4, 2e-4], "when": {"model.num_layers": [2]}}}},
        ["ablate.optim.lr.when depends on it"],
    ),
    "key-that-is-tuned": (
        {"params": 6e6, "by": "model.num_layers"},
        {"tune": {"model.num_layers": {"choice": [1, 2]}}},
        ["is tuned too"],
    ),
    "tuned-size": (
        {"params": "baseline", "by": "model.hidden_size"},
        {"tune": {"model.num_layers": {"choice": [2, 3]}}, "search": {"algorithm": "grid"}, "seeds": [1]},
        ["model.num_layers = 3", "matched at 6,828,034", "tune nothing that changes the size"],
    ),
    "falls": (
        {"flops": 4.7e10, "by": "model.mixer.headdim"},
        {},
        ["FLOPs a sample fall as it rises", "name a key with which they grow"],
    ),
    "both": (
        {"params": 1, "flops": 1, "by": "x"},
        {},
        ["one of params, flops, train_flops (given params and flops)"],
    ),
    "neither": ({"by": "x"}, {}, ["one of params, flops, train_flops (given none)"]),
    "negative": ({"params": -5, "by": "x"}, {}, ["match.params", "above 0", "(given -5)"]),
    "misspelt": ({"params": 5, "by": "x", "tolerence": 1}, {}, ["match.tolerence", "mean match.tolerance?"]),
    "no-key": ({"params": 5}, {}, ["match.by: is required"]),
    "tolerance": ({"params": 5, "by": "x", "tolerance": -1}, {}, ["match.tolerance", "(given -1)"]),
}


@pytest.mark.parametrize(("match", "changes", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_matched_is_refused(
    tmp_path: Path, match: dict[str, Any], changes: dict[str, Any], words: list[str]
) -> None:
    check_refused(trm_space(tmp_path, match, **changes), words)


def test_a_trainer_that_does_not_say_its_size_is_told_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.sweeps.toy_trainer.describe", lambda config: {"horizon_key": "max_samples"})
    path = write_space(tmp_path, match={"params": 5, "by": "lr"})
    with pytest.raises(SpecError, match=r"does not say an arm's parameters: return num_params from describe"):
        load_plan(path)


def test_a_level_that_match_sets_anew_cannot_be_set_from_the_command_line(tmp_path: Path) -> None:
    path = trm_space(tmp_path, {"params": 6.83e6, "by": "model.hidden_size"})
    with pytest.raises(
        SpecError, match=r"--set model\.hidden_size=256: changes nothing, as ablate, tune, match"
    ):
        load_plan(path, ["model.hidden_size=256"])


class Foreign(BaseModel):
    """Sizes as another trainer may have them: an even number, a power of two, any share."""

    even: int = Field(4, ge=1, le=400)
    power: int = Field(8, ge=1)
    share: float = Field(0.25, gt=0, le=1)

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        assert value % 2 == 0
        return value

    @field_validator("power")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        assert value & (value - 1) == 0
        return value


def foreign(sizes: dict[str, Any]) -> Trainer:
    def describe(config: Foreign) -> dict[str, Any]:
        size = sum(scale * getattr(config, key) ** power for key, (scale, power) in sizes.items())
        return {"num_params": size + 1}

    return Trainer("foreign", lambda config, trial: None, Foreign, describe, lambda config: None)


FEASIBLE = {"even": range(2, 401, 2), "power": [2**n for n in range(18)]}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(FEASIBLE)),
    st.sampled_from([1, 2]),
    st.floats(1.0, 1e5),
    st.sampled_from([0, 3, 9]),
)
def test_the_nearest_is_found_whatever_is_feasible(key: str, power: int, target: float, which: int) -> None:
    config = Foreign().model_dump() | {key: list(FEASIBLE[key])[which]}
    search = SizeSearch(key, "params", foreign({key: (3.0, power)}))
    _, size = search.nearest(config, target)
    everything = [3.0 * value**power + 1 for value in FEASIBLE[key]]
    assert abs(size - target) == pytest.approx(min(abs(each - target) for each in everything))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.99), st.sampled_from([0.25, 0.0137, 0.9]))
def test_a_share_is_found_to_three_decimals_and_within_its_bounds(wanted: float, start: float) -> None:
    search = SizeSearch("share", "params", foreign({"share": (1e6, 1)}))
    value, _ = search.nearest(Foreign(share=start).model_dump(), 1e6 * wanted + 1)
    assert value is not None and abs(value - wanted) <= 0.0006
    beyond, _ = search.nearest(Foreign(share=start).model_dump(), 9e6)
    assert beyond is not None and 0.999 <= beyond <= 1.0


def test_a_search_takes_few_looks(tmp_path: Path) -> None:
    looks = 0
    trainer = import_trainer("trm.trainer:train")

    def counted(config: Any) -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return describe(config)

    plan = trm_plan(tmp_path, {"params": 6.83e6, "by": "model.hidden_size", "on_unmatched": "mark"})
    looking = Trainer(trainer.name, trainer.function, trainer.config_model, counted, trainer.check)
    for arm in plan.arms:
        looks = 0
        SizeSearch("model.hidden_size", "params", looking).nearest(arm.config, 40e6)
        assert looks <= 40, arm.name
